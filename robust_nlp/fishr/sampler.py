"""The order of training examples: some domains at a time, with equally many rows each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler
from transformers import TrainerCallback

from robust_nlp.errors import DataError, RecipeError
from robust_nlp.fishr.batch import UNKNOWN
from robust_nlp.units import keyed_rng

#: Probabilities of domains by name, as powers of their sizes.
NAMED = {"uniform": 0.0, "proportional": 1.0}

IntArray = npt.NDArray[np.int64]


class DomainBalancedSampler(Sampler[int]):
    """Yield examples in batches of a few domains with equally many rows each.

    Row `i` of a batch is of domain `i mod domains_per_batch` of those drawn for it, so that every
    part into which processes and gradient accumulation cut the batch is balanced too; numbers of
    rows differ by one where they have to. A domain's rows come without repetition until it has no
    more, and then anew; a batch repeats a row only if its domain has too few.

    The order depends on the seed, the epoch and the batch size alone: not on how a batch is cut,
    and not on where training was resumed. An epoch has as many full batches as the data set has
    room for, at least one. It leaves out rows of large domains and repeats those of small ones.

    Args:
        domains: Index of the domain of each example; `UNKNOWN` for examples that are in no
            statistic. Those get the share of each batch that they have in the data set.
        batch_size: Rows per optimizer step, over all processes and accumulated batches.
        domains_per_batch: Domains in a batch.
        seed: Seed of the order.
        probabilities: How often a domain is drawn: "uniform", "proportional" to its size n, or a
            temperature t above 0 for n^(1/t), which lies between (t = 1 is proportional). Without
            effect if every batch has every domain.
        labels: Labels that spread as evenly over a domain's rows as they can; `None` for chance.
        lengths: Lengths of the examples, in any unit: the rows of a batch come in their order,
            which saves padding where a batch is cut.
        copies: Which examples are copies of others. They get the share of each batch that they have
            in the data set, of which each of the batch's domains has as many.

    Raises:
        RecipeError: If a batch cannot have so many domains, or the probabilities are none.
        DataError: If no domain is known.
    """

    def __init__(
        self,
        domains: Sequence[int],
        *,
        batch_size: int,
        domains_per_batch: int,
        seed: int,
        probabilities: str | float = "uniform",
        labels: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
        copies: Sequence[bool] | None = None,
    ) -> None:
        index = np.asarray(domains, dtype=np.int64)
        copied = np.zeros(len(index), bool) if copies is None else np.asarray(copies, dtype=bool)
        known = np.unique(index[(index > UNKNOWN) & ~copied])
        self._rows = [np.flatnonzero((index == d) & ~copied) for d in known]
        self._copies = [np.flatnonzero((index == d) & copied) for d in known]
        # Copies of what is left out of the originals are of no domain that a batch could have.
        self._others = np.flatnonzero((index <= UNKNOWN) | (copied & ~np.isin(index, known)))
        if not self._rows:
            raise DataError(f"none of {len(index)} training examples has a known domain")
        if not 1 <= domains_per_batch <= min(len(self._rows), batch_size):
            raise RecipeError(
                f"domains_per_batch must be from 1 to the number of training domains, here "
                f"{len(self._rows)}, and at most the batch size, here {batch_size}; got "
                f"{domains_per_batch}"
            )
        sizes = np.array([len(rows) for rows in self._rows], dtype=np.float64)
        weights = sizes ** exponent(probabilities)
        self._probabilities = weights / weights.sum()
        self._domains_per_batch, self._seed = domains_per_batch, seed
        self._batch_size = batch_size
        self._others_per_batch = len(self._others) / len(index) * batch_size
        self._copies_per_batch = sum(map(len, self._copies)) / len(index) * batch_size
        self._n_batches = max(1, len(index) // batch_size)
        self._labels = None if labels is None else np.asarray(labels)
        self._lengths = None if lengths is None else np.asarray(lengths)
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins; the data loader does."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._n_batches * self._batch_size

    def __iter__(self) -> Iterator[int]:
        rng = keyed_rng(self._seed, "domain-order", self._epoch)
        decks = [_Deck(rows, self._labels, rng) for rows in self._rows]
        copies = [_Deck(rows, self._labels, rng) for rows in self._copies]
        others = _Deck(self._others, None, rng)
        n = self._domains_per_batch
        for at in range(self._n_batches):
            chosen = rng.choice(len(decks), size=n, replace=False, p=self._probabilities)
            copied = [domain for domain in chosen if len(self._copies[domain])]
            n_others = _share(self._others_per_batch, at)
            n_copies = _share(self._copies_per_batch, at) if copied else 0
            size = max(self._batch_size - n_others - n_copies, n)
            n_copies = min(n_copies, self._batch_size - size)
            yield from _spread(
                self._dealt([decks[domain] for domain in chosen], size),
                self._dealt([copies[domain] for domain in copied], n_copies),
                self._sorted(others.draw(self._batch_size - size - n_copies)),
            ).tolist()

    def _dealt(self, decks: Sequence[_Deck], size: int) -> IntArray:
        """Draw equally many rows of each deck, in turns."""
        rows = np.empty(size, dtype=np.int64)
        for slot, deck in enumerate(decks):
            rows[slot :: len(decks)] = self._sorted(deck.draw(len(range(slot, size, len(decks)))))
        return rows

    def _sorted(self, rows: IntArray) -> IntArray:
        """Put the longest first, so that a batch that does not fit fails at once."""
        if self._lengths is None:
            return rows
        return rows[np.argsort(-self._lengths[rows], kind="stable")]


class SamplerEpoch(TrainerCallback):
    """Tell a sampler which epoch begins, before data are loaded for it.

    Data loaders do so as well, but not where several processes resume inside an epoch.
    """

    def __init__(self) -> None:
        self.sampler: DomainBalancedSampler | None = None

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if self.sampler is not None:
            # At the start of an epoch the Trainer's fractional epoch is whole up to rounding;
            # where it resumes, it lies inside the epoch.
            self.sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))


class _Deck:
    """Rows in random order, to draw from without end."""

    def __init__(
        self, rows: IntArray, labels: npt.NDArray[np.int64] | None, rng: np.random.Generator
    ) -> None:
        self._rows, self._labels, self._rng = rows, labels, rng
        self._left = rows[:0]

    def draw(self, count: int) -> IntArray:
        drawn, self._left = self._left[:count], self._left[count:]
        while len(drawn) < count:
            shuffled = self._shuffled()
            again = np.isin(shuffled, drawn)
            shuffled = np.concatenate([shuffled[~again], shuffled[again]])
            missing = count - len(drawn)
            drawn = np.concatenate([drawn, shuffled[:missing]])
            self._left = shuffled[missing:]
        return drawn

    def _shuffled(self) -> IntArray:
        """Shuffle; with labels, so that each stretch has about the same share of each label."""
        shuffled = self._rng.permutation(self._rows)
        if self._labels is None:
            return shuffled
        keys = np.empty(len(shuffled))
        for label in np.unique(self._labels[self._rows]):
            at = np.flatnonzero(self._labels[shuffled] == label)
            keys[at] = (np.arange(len(at)) + self._rng.random()) / len(at)
        return shuffled[np.argsort(keys, kind="stable")]


def _share(per_batch: float, at: int) -> int:
    """Return how many of some rows a batch has, so that all batches have their share of them."""
    return int((at + 1) * per_batch) - int(at * per_batch)


def _spread(*parts: IntArray) -> IntArray:
    """Put rows between each other, those of each part at equal distances."""
    at = [(np.arange(len(part)) + 0.5) / max(len(part), 1) for part in parts]
    return np.concatenate(parts)[np.argsort(np.concatenate(at), kind="stable")]


def exponent(probabilities: str | float) -> float:
    """Return the power of a domain's size that it is drawn in proportion to.

    Raises:
        RecipeError: If the probabilities are none.
    """
    if isinstance(probabilities, str) and probabilities in NAMED:
        return NAMED[probabilities]
    if isinstance(probabilities, (int, float)) and probabilities > 0.0:
        return 1.0 / probabilities
    raise RecipeError(
        'domain probabilities are "uniform", "proportional" or a temperature above 0; got '
        f"{probabilities!r}"
    )
