"""How many votes to cast, at which failure probability, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

#: Looks of a sequential plan: the first, and the factor from one to the next.
FIRST_LOOK = 32
LOOK_GROWTH = 1.4


@dataclass(frozen=True, kw_only=True)
class FixedPlan:
    """Cast a number of votes that is fixed in advance.

    Args:
        alpha: Probability that a certificate is wrong, in `(0, 1)`.
        n_selection: Votes that choose the class; none of them bounds its probability.
        n_estimation: Votes that bound the probabilities.
        enumerate_when_cheaper: Classify every noisy text instead, where these are no more than
            the votes; such a certificate has no failure probability at all.
    """

    alpha: float = 1e-3
    n_selection: int = 100
    n_estimation: int = 10_000
    enumerate_when_cheaper: bool = True

    kind: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        _check(self, positive=("n_selection", "n_estimation"))


@dataclass(frozen=True, kw_only=True)
class SequentialPlan:
    """Cast votes until the integer radius is decided.

    Noisy texts that few of their kind share (those that keep no or few units) are classified
    exactly; the others are sampled, and bounds that hold at all looks together (an exact group
    sequential test of the binomial) tell after each look whether more votes can still matter.

    Args:
        alpha: Probability that a certificate is wrong, in `(0, 1)`.
        n_selection: Votes that choose the class, and up to eight times as many while no class
            stands out; none of them bounds its probability.
        max_votes: The precision at which to give up: at most as many votes are cast as give the
            precision of `max_votes` votes on the whole law, so fewer where part of it is exact.
        futility: Stop when a larger radius would come with less than this probability, in
            `[0, 1)`. The guarantee does not depend on it.
        max_radius: Stop once this radius is certified; `None` goes on to the largest.
        enumerate_when_cheaper: Classify noisy texts exactly where that saves votes.
    """

    alpha: float = 1e-3
    n_selection: int = 24
    max_votes: int = 10_000
    futility: float = 0.02
    max_radius: int | None = None
    enumerate_when_cheaper: bool = True

    kind: ClassVar[str] = "sequential"

    def __post_init__(self) -> None:
        _check(self, positive=("n_selection", "max_votes"))
        if not 0.0 <= self.futility < 1.0:
            raise ValueError(f"futility is a probability in [0, 1); got {self.futility!r}")
        if self.max_radius is not None and self.max_radius < 0:
            raise ValueError(f"max_radius must be at least 0 or null; got {self.max_radius}")

    def schedule(self, votes: int) -> tuple[int, ...]:
        """Return the numbers of votes after which to look; the last is about `votes`.

        Schedules of different lengths start alike, so that they share their boundaries. None goes
        beyond `max_votes`.
        """
        looks, look = [], FIRST_LOOK
        while look < self.max_votes:
            looks.append(look)
            look = round(look * LOOK_GROWTH)
        looks.append(self.max_votes)
        last = min(range(len(looks)), key=lambda i: abs(looks[i] - votes))
        return tuple(looks[: last + 1])


@dataclass(frozen=True, kw_only=True)
class ExactPlan:
    """Classify every noisy text: certificates without a failure probability.

    Args:
        max_outcomes: Refuse texts that have more noisy texts than this.
    """

    max_outcomes: int = 65_536

    alpha: ClassVar[float] = 0.0
    kind: ClassVar[str] = "exact"

    def __post_init__(self) -> None:
        _check(self, positive=("max_outcomes",))


SamplingPlan = FixedPlan | SequentialPlan | ExactPlan


def most_votes(plan: SamplingPlan) -> int | None:
    """Return the votes that a plan casts at most per text, `None` without such a limit."""
    match plan:
        case FixedPlan():
            return plan.n_selection + plan.n_estimation
        case SequentialPlan():
            return plan.n_selection + plan.max_votes
        case ExactPlan():
            return None


def _check(plan: Any, *, positive: tuple[str, ...]) -> None:
    if not isinstance(plan, ExactPlan) and not 0.0 < plan.alpha < 1.0:
        raise ValueError(
            f"alpha is the probability that a certificate is wrong, in (0, 1), such as 0.001; "
            f"got alpha={plan.alpha!r}"
        )
    for name in positive:
        if getattr(plan, name) < 1:
            raise ValueError(f"{name} must be at least 1; got {name}={getattr(plan, name)}")
