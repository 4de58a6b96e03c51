"""The gradient of a loss that is no sum over batches, with the memory of one batch at a time."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import get_device_states, set_device_states

from robust_nlp.errors import ModelError
from robust_nlp.fishr.batch import LinearCall

#: Relative distance of the logits of two passes from which on they are not taken for the same.
TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What an objective sees of some rows.

    Attributes:
        features: Input of the last linear layer, float32; shape `(rows, hidden)`.
        logits: Float32; shape `(rows, classes)`.
        labels: Class indices; shape `(rows,)`.
        domains: Indices of domains; shape `(rows,)`.
        bias: Whether the last linear layer has a bias.
        inner: The head's linear layers before the last, for the whole-head option.
        sizes: Rows of each accumulated batch.
        copies: Rows that are copies of others; shape `(rows,)`.
    """

    features: torch.Tensor
    logits: torch.Tensor
    labels: torch.Tensor
    domains: torch.Tensor
    bias: bool
    inner: tuple[LinearCall, ...]
    sizes: tuple[int, ...]
    copies: torch.Tensor

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """Put the rows of several batches together, in order; without inner layers."""
        return cls(
            features=torch.cat([part.features for part in parts]),
            logits=torch.cat([part.logits for part in parts]),
            labels=torch.cat([part.labels for part in parts]),
            domains=torch.cat([part.domains for part in parts]),
            bias=parts[0].bias,
            inner=(),
            sizes=tuple(size for part in parts for size in part.sizes),
            copies=torch.cat([part.copies for part in parts]),
        )


#: Runs a model on a batch; returns its rows and its outputs.
Forward = Callable[[Any], tuple[Rows, Any]]


class TwoPasses:
    """The loss of a window of batches, and its gradient batch by batch.

    A first pass without a graph collects the rows of all batches. The loss is taken of all of them
    together, and so is its gradient with respect to features and logits. A second pass over each
    batch, with the same randomness (dropout), carries these gradients on into the model. The
    gradients of the second passes add up to the gradient of the loss of all rows in one batch.

    Args:
        forward: Runs the model.
        batches: The batches of the window, in order.
        loss: Takes the rows of the window; called once.

    Source: Gao, Zhang, Han and Callan, Scaling Deep Contrastive Learning Batch Size under Memory
        Limited Setup (2021).
    """

    def __init__(
        self, forward: Forward, batches: Sequence[Any], loss: Callable[[Rows], torch.Tensor]
    ) -> None:
        states, parts = [], []
        with torch.no_grad(), warnings.catch_warnings():
            # Checkpointed activations warn of what is meant here.
            warnings.filterwarnings("ignore", "None of the inputs have requires_grad")
            for batch in batches:
                states.append(_Randomness(batch["labels"]))
                parts.append(forward(batch)[0])
        rows = Rows.joined(parts)
        leaves = [rows.features.requires_grad_(), rows.logits.requires_grad_()]
        total = loss(rows)
        gradients = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        pieces = zip(
            *(torch.split(gradient, list(rows.sizes)) for gradient in gradients), strict=True
        )
        logits = [part.logits for part in parts]
        self._forward, self._n = forward, len(parts)
        self._loss = total.detach()
        self._waiting = deque(zip(states, logits, pieces, strict=True))

    def __len__(self) -> int:
        """Batches of which the second pass is still to come."""
        return len(self._waiting)

    def backward_loss(self, batch: Any) -> tuple[torch.Tensor, Any]:
        """Run the second pass over the next batch.

        Returns:
            A loss whose value is that of the window and whose gradients, averaged over the batches
            of the window, are those of the window; and the outputs of the model.

        Raises:
            ModelError: If the model gives other logits than in the first pass.
        """
        state, logits, (to_features, to_logits) = self._waiting.popleft()
        with state.again():
            rows, outputs = self._forward(batch)
        if (rows.logits.detach() - logits).norm() > TOLERANCE * logits.norm():
            raise ModelError(
                "the model gives other logits in a second pass over the same batch with the same "
                'random numbers, which accumulation="exact" needs; write accumulation="per_batch", '
                "or gradient_accumulation_steps=1 with larger batches"
            )
        linear = (to_features * rows.features).sum() + (to_logits * rows.logits).sum()
        return self._n * (linear - linear.detach()) + self._loss, outputs


class _Randomness:
    """The state of torch's generators, to go back to."""

    def __init__(self, somewhere: torch.Tensor) -> None:
        self._cpu = torch.get_rng_state()
        self._devices, self._states = get_device_states(somewhere)

    @contextmanager
    def again(self) -> Iterator[None]:
        with torch.random.fork_rng(devices=self._devices):
            torch.set_rng_state(self._cpu)
            set_device_states(self._devices, self._states)
            yield
