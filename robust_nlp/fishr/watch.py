"""Warnings of batches in which the Fishr penalty says little of domains."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

from robust_nlp.errors import RobustNLPWarning
from robust_nlp.fishr.batch import DomainBatch, Reduce
from robust_nlp.fishr.diagnostics import diagnose, penalty_to_noise
from robust_nlp.fishr.objectives import Fishr

#: Batches that are looked at before anything is said of them.
BATCHES = 50

#: As many at least, if training ends before.
FEWEST = 25

#: Ratio of penalty to noise below which the penalty is mostly noise.
LOWEST_RATIO = 2.0


class Watch:
    """Look at the first batches with a penalty, and warn once of what is wrong with most of them.

    Args:
        objective: What is minimized.
    """

    def __init__(self, objective: Fishr) -> None:
        self._objective = objective
        self._batches = 0
        self._seen: Counter[str] = Counter()
        self._single: Counter[str] = Counter()
        self._penalties: list[float] = []
        self._noises: list[float] = []

    def look(self, batch: DomainBatch, names: Sequence[str], *, reduce: Reduce) -> None:
        """Look at a batch, in all processes alike.

        Warns:
            RobustNLPWarning: Once, after `BATCHES` batches or at the end, if domains had rows of
                one label alone in most of theirs, or if the penalty is mostly noise.
        """
        if self._batches >= BATCHES:
            return
        self._batches += 1
        found = diagnose(batch, names, reduce=reduce)
        self._seen.update(found.rows.keys())
        self._single.update(found.single_label)
        if found.penalty is not None and found.noise is not None:
            self._penalties.append(found.penalty)
            self._noises.append(found.noise)
        if self._batches == BATCHES:
            self._warn()

    def finish(self) -> None:
        """Warn of what was seen, if training ends before `BATCHES` batches."""
        if FEWEST <= self._batches < BATCHES:
            self._warn()
            self._batches = BATCHES

    def _warn(self) -> None:
        single = [name for name, n in self._single.items() if 2 * n > self._seen[name]]
        if single:
            warnings.warn(
                f"in most of {self._batches} batches, all rows of these domains had the same "
                f"label: {', '.join(map(repr, single))}. Their gradients then hardly vary with "
                "the label; raise rows_per_domain, or write stratify_labels=True",
                RobustNLPWarning,
                stacklevel=2,
            )
        if self._objective.estimator == "cross_split" or not sum(self._noises) > 0.0:
            return
        ratio = penalty_to_noise(
            sum(self._penalties) / len(self._penalties),
            sum(self._noises) / len(self._noises),
            gamma=self._objective.gamma,
        )
        if ratio < LOWEST_RATIO:
            warnings.warn(
                f"over {self._batches} batches, the Fishr penalty was {ratio:.2f} times what it "
                "would be for domains that are alike: it mostly lowers gradient variances "
                "everywhere. Raise the rows of each domain or gamma, or write "
                'estimator="cross_split"',
                RobustNLPWarning,
                stacklevel=2,
            )
