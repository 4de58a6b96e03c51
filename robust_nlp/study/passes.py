"""How often a training calls its classifier, so that costs can be compared across machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import PreTrainedModel


class Passes:
    """A number of forward passes.

    Attributes:
        count: The number so far.
    """

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def training_passes() -> Iterator[Passes]:
    """Count the forward passes of sequence classifiers in training mode.

    Those that train are counted, and those that look for perturbations: each call of a whole model,
    on a batch of whatever size, in this process.
    """
    passes = Passes()

    def note(module: Any, _: Any) -> None:
        if isinstance(module, PreTrainedModel) and module.training:
            passes.count += type(module).__name__.endswith("ForSequenceClassification")

    handle = register_module_forward_pre_hook(note)
    try:
        yield passes
    finally:
        handle.remove()
