"""Load masked language models, with a head made of the embeddings where there is none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from robust_nlp.embedded import resolve_base
from robust_nlp.errors import ModelError
from robust_nlp.loading import load_tokenizer

logger = logging.getLogger(__name__)


def load_masked_lm(
    path: str | Path, *, revision: str | None = None, make_head: bool = False
) -> tuple[Any, Any]:
    """Load a masked language model in single precision, and its tokenizer.

    Args:
        path: Folder, Hub id or "embedded:minilm".
        revision: Hub revision.
        make_head: Whether an encoder without a head gets one, to be trained: scores are products
            with the input embeddings (tied), after a layer that changes nothing at first.

    Raises:
        ModelError: If there is nothing to load, or the model has no head and none is to be made.
    """
    from transformers import AutoModelForMaskedLM

    source = resolve_base(str(path))
    try:
        tokenizer = load_tokenizer(source, revision)
        with _quiet():  # what is missing is said below
            model, loading = AutoModelForMaskedLM.from_pretrained(
                source, revision=revision, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot load a masked language model and its tokenizer from {source!r}: {error}"
        ) from error
    missing = sorted(loading["missing_keys"])
    encoder = [name for name in missing if name.startswith(f"{model.base_model_prefix}.")]
    if encoder:
        raise ModelError(f"{source!r} lacks weights of its encoder: {', '.join(encoder[:4])}")
    if missing and not make_head:
        raise ModelError(
            f"{source!r} has no trained masked-LM head: {', '.join(missing[:4])} would be made up. "
            "Train it first, for instance with: robust-nlp train-denoiser"
        )
    if missing:
        logger.info("%s has no masked-LM head: one is made of its embeddings", source)
        _make_head(model, set(missing))
    return model, tokenizer


@contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging as reports

    before = reports.get_verbosity()
    reports.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        reports.set_verbosity(before)


def _make_head(model: Any, missing: set[str]) -> None:
    """Fill in what is missing: layers that change nothing, and scores tied to the embeddings."""
    output = model.get_output_embeddings()
    embeddings = model.get_input_embeddings()
    if output is not None and output.weight.shape == embeddings.weight.shape:
        output.weight = embeddings.weight
        model.config.tie_word_embeddings = True
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in missing or parameter is embeddings.weight:
                continue
            if parameter.dim() == 2:
                torch.nn.init.eye_(parameter)
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
