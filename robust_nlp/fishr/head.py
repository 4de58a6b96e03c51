"""The input of a classifier's last linear layer, found by what is called, not by names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robust_nlp.errors import ModelError
from robust_nlp.fishr.batch import LinearCall
from robust_nlp.fishr.residuals import full_precision


@dataclass(frozen=True, kw_only=True)
class HeadRows:
    """What the head computed the logits of.

    Attributes:
        features: Input of the last linear layer, as it came, with its graph; shape
            `(rows, hidden)`.
        bias: Whether this layer has a bias.
        inner: Calls of the linear layers before it; empty without the whole-head option.
    """

    features: Tensor
    bias: bool
    inner: tuple[LinearCall, ...] = ()


class HeadCapture:
    """Watch a classifier's forward passes, and say what its logits were computed of.

    The last linear layer is the one that was called last among those whose output is the logits
    that the model returned, or holds them at one position of each row, as in decoders. A layer
    with LoRA counts as one linear layer with the effective weight, and of a module that PEFT
    trains in full the copy that is called counts.

    Args:
        model: A classifier, before it is wrapped for several processes or compiled.
        num_labels: Its logits; `None` takes `model.config.num_labels`.
        whole_head: Capture as well the layers before the last that are applied once to each row,
            such as those of pooling, where they are trained. Their gradients need a backward pass
            through the head.

    Raises:
        ModelError: If the model is a `DataParallel`, or has no linear layer with so many outputs.
    """

    def __init__(
        self, model: Any, *, num_labels: int | None = None, whole_head: bool = False
    ) -> None:
        if isinstance(model, nn.DataParallel):
            raise ModelError(
                "DataParallel splits a batch among copies of the model, of which each sees a part "
                "of the rows; start one process for each GPU instead, with torchrun or accelerate "
                "launch, or show a single GPU (CUDA_VISIBLE_DEVICES=0)"
            )
        if num_labels is None:
            num_labels = int(model.config.num_labels)
        self._classes, self._whole_head = num_labels, whole_head
        self._calls: list[_Call] | None = None
        self._seen: list[_Call] = []
        self._hooks: list[Any] = []
        layers = _outermost_linear(model)
        if not any(layer.out_features == num_labels for layer in layers.values()):
            raise ModelError(
                f"expected a linear layer with {num_labels} outputs, one for each label, in "
                f"{type(model).__name__}; there is none. Take a model for sequence classification"
            )
        for name, layer in layers.items():
            if whole_head or layer.out_features == num_labels:
                self._watch(name, layer)

    def _watch(self, name: str, layer: Any) -> None:
        bias = getattr(layer, "bias", None) is not None
        trained = any(p.requires_grad for p in layer.parameters())

        def note(_layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if self._calls is None:
                return
            inputs = args[0] if args else next(iter(kwargs.values()))
            if layer.out_features == self._classes or inputs.ndim == 2:
                self._calls.append(_Call(name, inputs, output, bias, trained))

        self._hooks.append(layer.register_forward_hook(note, with_kwargs=True))

    def close(self) -> None:
        """Leave the model as it was: it can then be copied and pickled again."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what is called inside; call the model once, then `rows`."""
        self._calls = []
        try:
            yield
        finally:
            self._seen, self._calls = self._calls, None

    def rows(self, logits: Tensor, attention_mask: Tensor | None = None) -> HeadRows:
        """Return what these logits were computed of; once for each watched forward pass.

        Args:
            logits: What the model returned; shape `(rows, classes)`.
            attention_mask: Which positions the model read; shape `(rows, positions)`. Decoders
                classify at the last of these; where low precision gives several positions the
                same logits, it tells them apart.

        Raises:
            ModelError: If no watched call gives these logits, or several positions of one do.
        """
        calls, self._seen = self._seen, []
        for place in reversed(range(len(calls))):
            call = calls[place]
            features = _inputs_of(call, logits, attention_mask)
            if features is not None:
                inner = calls[:place] if self._whole_head else []
                return HeadRows(
                    features=features,
                    bias=call.bias,
                    inner=tuple(
                        LinearCall(inputs=each.inputs, outputs=each.outputs, bias=each.bias)
                        for each in inner
                        if each.trained
                        and each.outputs.requires_grad
                        and each.inputs.ndim == 2
                        and len(each.inputs) == len(logits)
                    ),
                )
        called = "; ".join(f"{call.name} gave {tuple(call.outputs.shape)}" for call in calls)
        raise ModelError(
            f"expected logits of shape {tuple(logits.shape)} that are the output of a linear layer "
            f"called in this forward pass, as they are or at one position of each row; "
            f"{called or 'no such layer was called'}. Fishr needs a model whose last step is a "
            "linear layer, watched before it is compiled"
        )


@dataclass(frozen=True)
class _Call:
    name: str
    inputs: Tensor
    outputs: Tensor
    bias: bool
    trained: bool


def _outermost_linear(model: nn.Module) -> dict[str, Any]:
    """Return modules with `in_features` and `out_features` that are in no other one, by name."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():  # parents come before children
        sizes = (getattr(module, size, None) for size in ("in_features", "out_features"))
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if all(isinstance(size, int) for size in sizes) and not inside:
            found[name] = module
    return found


def _inputs_of(call: _Call, logits: Tensor, attention_mask: Tensor | None) -> Tensor | None:
    """Return the inputs that a call made these logits of, or `None` if it did not."""
    inputs, outputs = call.inputs, call.outputs
    if inputs.ndim == 2:
        same = outputs.shape == logits.shape and _equal(outputs, logits).all()
        return inputs if same else None
    if inputs.ndim != 3 or outputs.shape[::2] != logits.shape:
        return None
    matches = _equal(outputs, logits[:, None])
    if not matches.any(dim=1).all():
        return None
    positions = torch.arange(matches.shape[1], device=matches.device).expand_as(matches)
    read = torch.ones_like(matches)
    if attention_mask is not None and attention_mask.shape == matches.shape:
        read = attention_mask.bool()
    last = positions.masked_fill(~read, -1).amax(dim=1, keepdim=True).clamp(min=0)
    at_last = matches.gather(1, last).squeeze(1)
    if not (at_last | (matches.sum(dim=1) == 1)).all():
        raise ModelError(
            f"several positions of a row give the same logits in {call.name}, and the last of them "
            "that was read does not; pass the attention mask, or compute logits in float32"
        )
    place = torch.where(at_last, last.squeeze(1), matches.int().argmax(dim=1))
    return inputs[torch.arange(len(inputs), device=inputs.device), place]


def _equal(outputs: Tensor, logits: Tensor) -> Tensor:
    """Return where all scores are equal, in whatever precision; NaN equals NaN."""
    one, other = full_precision(outputs.detach()), full_precision(logits.detach())
    return torch.isclose(one, other, rtol=0.0, atol=0.0, equal_nan=True).all(dim=-1)
