"""Mechanisms whose radius follows from the likelihood ratios of the worst attacks."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from robust_nlp.likelihood import RatioLevels, margin
from robust_nlp.mechanisms.base import NO_RADIUS, Profile, TextMechanism, believed
from robust_nlp.threats import Attacker

#: Radii of attackers that may insert are searched up to here.
MAX_RADIUS = 1_000


@dataclass(frozen=True, kw_only=True)
class NeymanPearsonMechanism(TextMechanism):
    """A mechanism that is given by its law of noise and by the worst pairs of laws.

    A subclass says how noise is drawn (`law`) and how far apart k edits can move the laws
    (`pairs`); the radius is then the largest k at which every base classifier keeps its answer.
    `robust_nlp.testing.check_mechanism` tells whether both fit together.
    """

    @abstractmethod
    def pairs(
        self, edits: int, *, n_units: int, attacker: Attacker, profile: Profile
    ) -> Sequence[RatioLevels]:
        """Return pairs of laws that cover every attack with so many edits, or with fewer.

        The laws of the clean text and of each attacked text must be no further apart than one of
        the pairs: one for each mix of moves, or each choice of words, that may be the worst.

        Args:
            edits: Number of edits, at least 1.
            n_units: Number of units of the clean text.
            attacker: The moves that the attacker may use.
            profile: The profile of the text's law.
        """

    def radius(
        self,
        p_lower: float,
        p_runner_up: float,
        *,
        n_units: int,
        attacker: Attacker,
        profile: Profile = (),
    ) -> int:
        """Return the certified radius; see `TextMechanism.radius`.

        Radii are doubled until one fails, then halved in between: each that is returned was found
        safe by itself, so nothing is assumed about how margins change.
        """
        self.check_attacker(attacker)
        low, high = believed(p_lower, p_runner_up)
        if low <= high:
            return NO_RADIUS
        most = MAX_RADIUS if "insert" in attacker else n_units

        def fails(edits: int) -> bool:
            pairs = _pairs(self, edits, n_units, attacker, profile)
            return any(margin(pair, low, high) <= 0.0 for pair in pairs)

        beyond = 1
        while beyond <= most and not fails(beyond):
            beyond *= 2
        safe = beyond // 2
        return safe + bisect_left(range(safe + 1, min(beyond, most + 1)), True, key=fails)


@lru_cache(maxsize=4_096)
def _pairs(
    mechanism: NeymanPearsonMechanism,
    edits: int,
    n_units: int,
    attacker: Attacker,
    profile: Profile,
) -> tuple[RatioLevels, ...]:
    return tuple(mechanism.pairs(edits, n_units=n_units, attacker=attacker, profile=profile))
