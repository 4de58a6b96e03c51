"""The order of training examples: random, with texts of similar length in a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from robust_nlp.units import keyed_rng

#: Batches that are sorted by length together.
SORTED_TOGETHER = 8


class LengthGroupedSampler(Sampler[int]):
    """Yield examples so that consecutive ones of a batch have similar lengths.

    Which examples meet, and the order of the batches, are drawn anew in each epoch from the seed
    and the epoch alone. A batch that is not full comes last.

    Args:
        lengths: Length of each example, in any unit.
        batch_size: Examples per optimizer step, over all processes.
        seed: Seed of the order.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size, self._seed = batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins; the data loader does."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = keyed_rng(self._seed, "train-order", self._epoch)
        order = rng.permutation(len(self._lengths))
        size = SORTED_TOGETHER * self._batch_size
        full = len(order) - len(order) % self._batch_size
        batches = []
        for start in range(0, full, size):
            group = order[start : min(start + size, full)]
            group = group[np.argsort(self._lengths[group], kind="stable")]
            batches += [
                group[i : i + self._batch_size] for i in range(0, len(group), self._batch_size)
            ]
        for i in rng.permutation(len(batches)):
            yield from batches[i].tolist()
        yield from order[full:].tolist()


class TakesLengthsTogether:
    """A mixin for a `transformers.Trainer` that takes its rows by a `LengthGroupedSampler`.

    A row of its training set has `text` and `pair`, which may be `None`.
    """

    args: Any
    train_dataset: Any

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        args, n = self.args, len(rows)
        return LengthGroupedSampler(
            [len(row["text"]) + len(row["pair"] or "") for row in map(rows.__getitem__, range(n))],
            batch_size=args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            seed=args.seed if args.data_seed is None else args.data_seed,
        )
