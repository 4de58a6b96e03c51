"""What every mechanism is: a law of noise, and a bound on what an attacker can do to it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from robust_nlp.threats import UNITS, Attacker, Unit, attacker_name

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

#: In a noisy row: nothing stands at this position.
REMOVED = -1

#: Probabilities are believed up to this much, so that neither an exact tie nor a class whose
#: probability is lost in the rounding of another certifies.
ROUNDING = 1e-10

#: What each allowed substitution of each unit costs, where a mechanism counts such costs; else
#: empty. What a cost is, the mechanism says.
Profile = tuple[tuple[float, ...], ...]

#: Attackers that reports show, where a mechanism certifies against them.
DEFAULT_ATTACKERS = ("insert+delete+substitute", "substitute", "insert", "delete")

#: The radius of a bound that does not even fix the answer on the clean text itself.
NO_RADIUS = -1


class EditBudget(NamedTuple):
    """How many moves of each kind an attacker makes, from clean to attacked."""

    insertions: int
    deletions: int
    substitutions: int


@dataclass(frozen=True)
class Strata:
    """Split the noisy texts of one text by the number of units kept.

    Attributes:
        kept: How many units are kept in each stratum, increasing; shape `(strata,)`.
        probability: Probability of each stratum; shape `(strata,)`; sums to one.
        outcomes: How many noisy texts, by position, each stratum holds; shape `(strata,)`. All
            outcomes of a stratum are equally likely. A float, since C(n, k) overflows integers.
    """

    kept: IntArray
    probability: FloatArray
    outcomes: FloatArray


class Law(ABC):
    """The law of the noise on one text.

    A noisy text is a row of indices into the units of the text: `i` in `0..n_units-1` is the i-th
    unit, `n_units + j` the j-th of `extra_units`, and `REMOVED` nothing; in what order they stand
    is the law's own business. A row of a law on embeddings holds a seed of the noise.

    Attributes:
        n_units: Number of units of the text.
        extra_units: Units that the noise may add, such as a mask.
        profile: What the certificate must know about the text besides its length.
    """

    n_units: int
    extra_units: tuple[str, ...] = ()
    profile: Profile = ()

    @abstractmethod
    def strata(self) -> Strata:
        """Split the noisy texts by the number of units kept, or into one stratum of all."""

    @abstractmethod
    def draw(self, size: int, rng: np.random.Generator) -> IntArray:
        """Draw independent noisy texts, as rows of indices; shape `(size, width)`."""

    def enumerate(self, kept: int) -> IntArray:
        """List every noisy text of the stratum; shape `(outcomes, width)`."""
        raise NotImplementedError(f"{type(self).__name__} cannot be enumerated")

    def outcomes(self) -> tuple[IntArray, FloatArray]:
        """List the noisy texts of a short text with their probabilities, some perhaps repeatedly.

        Returns:
            Rows as in `draw`, and the probability of each row; shape `(rows,)`; sums to one.
        """
        strata = self.strata()
        tables = [self.enumerate(int(kept)) for kept in strata.kept]
        sizes = [len(table) for table in tables]
        return np.concatenate(tables), np.repeat(strata.probability / sizes, sizes)

    def kept_counts(self, rows: IntArray) -> IntArray:
        """Tell the stratum of each noisy row by its number of units kept; shape `(rows,)`."""
        kept: IntArray = ((rows >= 0) & (rows < self.n_units)).sum(axis=1)
        return kept


@dataclass(frozen=True, kw_only=True)
class TextMechanism(ABC):
    """Draw noisy versions of a text, and bound what edits can do to a probability under them.

    A mechanism knows no model and no statistics.

    Args:
        unit: What is edited and what noise acts on: "word" (separated by white space),
            "character" (a Unicode code point) or "token" (a token of the base classifier).
    """

    unit: Unit = "word"

    kind: ClassVar[str]
    #: The moves against which the mechanism can certify anything at all.
    certifies: ClassVar[Attacker]
    #: Attackers that reports show where a recipe names none, the most important first.
    shown: ClassVar[tuple[str, ...]] = DEFAULT_ATTACKERS
    #: Whether a noisy text has a unit, such as a mask, in every place of the text.
    keeps_length: ClassVar[bool] = False
    #: What `details` returns, by name, in words for reports.
    detail_names: ClassVar[Mapping[str, str]] = {}
    #: What certificates leave out, besides what every certificate does, in words for reports.
    not_covered: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(
                f"{type(self).__name__} needs unit to be one of {', '.join(UNITS)}; "
                f"got unit={self.unit!r}"
            )

    @abstractmethod
    def law(self, units: Sequence[str]) -> Law:
        """Return the law of the noise on a text of these units."""

    @abstractmethod
    def radius(
        self,
        p_lower: float,
        p_runner_up: float,
        *,
        n_units: int,
        attacker: Attacker,
        profile: Profile = (),
    ) -> int:
        """Return the largest number of edits that provably leaves the smoothed answer as it is.

        Args:
            p_lower: Lower bound of the probability of the predicted class, in `[0, 1]`.
            p_runner_up: Upper bound of the probability of every other class, in `[0, 1]`.
            n_units: Number of units of the clean text.
            attacker: The moves that the attacker may use, from clean to attacked.
            profile: The profile of the text's law.

        Returns:
            The radius in whole edits, inclusive; `NO_RADIUS` if the bounds do not fix the answer
            on the clean text. If every text that the attacker can reach is covered, the largest
            distance of such a text: `n_units` for deletions and substitutions.

        Raises:
            ValueError: If the mechanism has no certificate against one of the moves.
        """

    @abstractmethod
    def dead_zone(self, n_units: int) -> bool:
        """Tell whether all texts of this length necessarily have one and the same answer.

        There the most likely noisy text is the same for every text and has probability above one
        half, so that a certificate is true but says nothing about the text.
        """

    @property
    @abstractmethod
    def description(self) -> str:
        """Say in a sentence what the noise does, for reports."""

    def at_rate(self, rate: float) -> TextMechanism:  # noqa: ARG002
        """Return the same mechanism with another rate of noise in `(0, 1)`, for training.

        Raises:
            ValueError: If the mechanism has no single rate.
        """
        raise ValueError(f"{type(self).__name__} has no single rate of noise to draw anew")

    @property
    def needs_mask(self) -> bool:
        """Whether the field `mask` must still be told what stands for a masked unit."""
        return False

    @property
    def substitutes(self) -> Callable[[str], Collection[str]] | None:
        """What may replace a unit for the certificate to hold; `None` for anything."""
        return None

    def swappable(self, profile: Profile) -> int | None:  # noqa: ARG002
        """Return how many units have a substitute that is covered; `None` where anything is one.

        A text in which none has is certified against nothing, whatever its radius.

        Args:
            profile: The profile of the text's law.
        """
        return None

    def contents(self) -> dict[str, dict[str, Any]]:
        """Return what settings name without holding it, such as a file, by the name of the setting.

        Each entry is ready for a manifest: `source`, what the setting says, and `content_hash`, a
        key of what is read there, equal on all machines.

        Raises:
            DataError: If it cannot be read.
        """
        return {}

    def ceiling(self, n_units: int, attacker: Attacker, profile: Profile = ()) -> int:
        """Return the radius that votes of one mind, without sampling error, would give."""
        return _ceiling(self, n_units, attacker, profile)

    def frontier(
        self,
        p_lower: float,  # noqa: ARG002
        p_runner_up: float,  # noqa: ARG002
        *,
        n_units: int,  # noqa: ARG002
        attacker: Attacker,  # noqa: ARG002
    ) -> list[EditBudget]:
        """List the largest safe mixes of moves, where certificates tell mixes apart; else none.

        Every budget that is, move by move, at most one of the returned budgets leaves the smoothed
        answer as it is.

        Args:
            p_lower: Lower bound of the probability of the predicted class, in `[0, 1]`.
            p_runner_up: Upper bound of the probability of every other class, in `[0, 1]`.
            n_units: Number of units of the clean text.
            attacker: The attacker's moves; the others stay at zero.
        """
        return []

    def details(
        self,
        p_lower: float,  # noqa: ARG002
        p_runner_up: float,  # noqa: ARG002
        *,
        n_units: int,  # noqa: ARG002
        profile: Profile = (),  # noqa: ARG002
    ) -> dict[str, float]:
        """Return, by name, what bounds that fix the answer prove besides the radius.

        What a name means, `detail_names` says.
        """
        return {}

    def check_attacker(self, attacker: Attacker) -> None:
        """Raise ValueError if there is no certificate against one of the moves."""
        outside = attacker - self.certifies
        if outside or not attacker:
            raise ValueError(
                f"{type(self).__name__} certifies against {attacker_name(self.certifies)}; "
                f"got the attacker {attacker_name(attacker) or 'without moves'}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, with `kind`, as a recipe writes them."""
        return {"kind": self.kind, **dataclasses.asdict(self)}


@dataclass(frozen=True, kw_only=True)
class LengthMechanism(TextMechanism):
    """A mechanism whose noise and certificate depend on the length of a text alone."""

    @property
    def extra_units(self) -> tuple[str, ...]:
        """Units that the noise may add, such as a mask."""
        return ()

    @abstractmethod
    def strata(self, n_units: int) -> Strata:
        """Split the noisy texts of a text with n units by the number of units kept."""

    @abstractmethod
    def draw(self, n_units: int, size: int, rng: np.random.Generator) -> IntArray:
        """Draw independent noisy texts, as rows of indices; shape `(size, n_units)`."""

    @abstractmethod
    def enumerate(self, n_units: int, kept: int) -> IntArray:
        """List every noisy text that keeps `kept` units; shape `(outcomes, n_units)`."""

    def law(self, units: Sequence[str]) -> LengthLaw:
        return LengthLaw(self, len(units))


class LengthLaw(Law):
    """The law of a mechanism that looks at nothing but the length."""

    def __init__(self, mechanism: LengthMechanism, n_units: int) -> None:
        self.n_units = n_units
        self._mechanism = mechanism

    @property
    def extra_units(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._mechanism.extra_units

    def strata(self) -> Strata:
        return self._mechanism.strata(self.n_units)

    def draw(self, size: int, rng: np.random.Generator) -> IntArray:
        return self._mechanism.draw(self.n_units, size, rng)

    def enumerate(self, kept: int) -> IntArray:
        return self._mechanism.enumerate(self.n_units, kept)


@lru_cache(maxsize=10_000)
def _ceiling(mechanism: TextMechanism, n_units: int, attacker: Attacker, profile: Profile) -> int:
    return mechanism.radius(1.0, 0.0, n_units=n_units, attacker=attacker, profile=profile)


def believed(p_lower: float, p_runner_up: float) -> tuple[float, float]:
    """Return two valid bounds, loosened by what rounding may have done to them.

    Raises:
        ValueError: If one is no probability.
    """
    for name, value in (("p_lower", p_lower), ("p_runner_up", p_runner_up)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is a probability in [0, 1]; got {value!r}")
    return p_lower - ROUNDING, min(p_runner_up, 1.0 - p_lower) + ROUNDING
