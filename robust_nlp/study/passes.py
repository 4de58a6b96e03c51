"""How much a training reads, so that costs can be compared across machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules.module import register_module_forward_hook
from transformers import PreTrainedModel


class Passes:
    """Forward passes of one process.

    Attributes:
        count: Their number so far.
        texts: Texts that they read together, a text as often as it is read.
    """

    def __init__(self) -> None:
        self.count = 0
        self.texts = 0


@contextmanager
def training_passes() -> Iterator[Passes]:
    """Count the forward passes of sequence classifiers in training mode, whatever they are for.

    Those that train are counted, and those that look for perturbations of embeddings or find
    statistics of accumulated batches.
    """
    passes = Passes()

    def note(module: Any, _: Any, output: Any) -> None:
        if not (module.training and isinstance(module, PreTrainedModel)):
            return
        if type(module).__name__.endswith("ForSequenceClassification"):
            passes.count += 1
            passes.texts += len(output["logits"] if isinstance(output, dict) else output[0])

    handle = register_module_forward_hook(note)
    try:
        yield passes
    finally:
        handle.remove()
