"""Fine-tuning of the upper layers alone."""

from __future__ import annotations

from typing import Any

from torch import nn

from robust_nlp.errors import ModelError


def freeze_layers(model: Any, n_layers: int) -> None:
    """Keep embeddings and lower layers of a classifier as they are in training.

    Backward passes end above them, unless something below is differentiated for its own sake, as
    in adversarial training on embeddings. Their dropout stays.

    What comes before the list of layers in the model's own order counts as embeddings, and so do
    embedding tables anywhere beside that list.

    Args:
        model: A sequence classifier of `transformers`.
        n_layers: Layers, counted from the embeddings; 0 for the embeddings alone.

    Raises:
        ModelError: If there are not so many layers, or the model has no list of its layers, as
            where all layers are one.
    """
    base = model.base_model
    name, n_there = _layers(base, int(model.config.num_hidden_layers))
    if n_layers > n_there:
        raise ModelError(
            f"cannot freeze {n_layers} layers of {type(base).__name__}: it has {n_there}"
        )
    inside, below = f"{name}.", True
    for key, parameter in base.named_parameters():
        below = below and not key.startswith(inside)
        if below or (key.startswith(inside) and _number(key, inside) < n_layers):
            parameter.requires_grad_(False)
    for key, module in base.named_modules():
        if isinstance(module, nn.Embedding) and not key.startswith(inside):
            module.requires_grad_(False)


def _layers(base: Any, depth: int) -> tuple[str, int]:
    """Return the name of the list of layers, and its length."""
    found: list[str] = []
    for name, module in base.named_modules():  # parents come before children
        outermost = not any(name.startswith(f"{other}.") for other in found)
        if isinstance(module, nn.ModuleList) and len(module) == depth and outermost:
            found.append(name)
    if len(found) != 1:
        raise ModelError(
            f"model.freeze needs a model with one list of its {depth} layers; "
            f"{type(base).__name__} has {', '.join(found) or 'none'}. Set model.freeze to null"
        )
    return found[0], depth


def _number(key: str, inside: str) -> int:
    return int(key.removeprefix(inside).partition(".")[0])
