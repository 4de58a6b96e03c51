"""Threat models: what the attacker may do, and the distance that counts it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from rapidfuzz.distance import Hamming, Indel, Levenshtein

from robust_nlp.errors import did_you_mean

Unit = Literal["word", "character", "token"]
Move = Literal["insert", "delete", "substitute"]
Attacker = frozenset[Move]

UNITS: tuple[Unit, ...] = get_args(Unit)
MOVES: tuple[Move, ...] = get_args(Move)
ALL_EDITS: Attacker = frozenset(MOVES)

#: The seven attackers, the strongest first.
ATTACKERS: tuple[Attacker, ...] = (
    ALL_EDITS,
    frozenset({"insert", "substitute"}),
    frozenset({"delete", "substitute"}),
    frozenset({"substitute"}),
    frozenset({"insert", "delete"}),
    frozenset({"insert"}),
    frozenset({"delete"}),
)


def parse_attacker(moves: Iterable[str] | str) -> Attacker:
    """Read an attacker from names of moves, or from one string such as "insert+delete".

    Raises:
        ValueError: If a name is not one of insert, delete, substitute, or none is given.
    """
    names = moves.replace(",", "+").split("+") if isinstance(moves, str) else list(moves)
    chosen: set[Move] = set()
    for name in (str(name).strip() for name in names):
        if name not in MOVES:
            raise ValueError(
                f"an attacker is a set of {', '.join(MOVES)}, seen from the clean text; "
                f"got {name!r}.{did_you_mean(name, MOVES)}"
            )
        chosen.add(name)
    if not chosen:
        raise ValueError(f"an attacker needs at least one of {', '.join(MOVES)}; got none")
    return frozenset(chosen)


def attacker_name(attacker: Iterable[str]) -> str:
    """Name an attacker in a fixed order, such as "insert+delete+substitute"."""
    return "+".join(move for move in MOVES if move in set(attacker))


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """Count the fewest edits by which an attacker turns a clean text into another.

    The moves are the attacker's own, from clean to attacked: `{"insert"}` is somebody who adds
    words to the clean text.
    """

    attacker: Attacker = ALL_EDITS
    unit: Unit = "word"

    def __post_init__(self) -> None:
        object.__setattr__(self, "attacker", parse_attacker(self.attacker))
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}; got {self.unit!r}")

    @property
    def name(self) -> str:
        """Say the threat in words, such as "word edits (insert+delete)"."""
        return f"{self.unit} edits ({attacker_name(self.attacker)})"

    def distance(self, clean: Sequence[Hashable], attacked: Sequence[Hashable]) -> float:
        """Return the fewest moves from clean to attacked units; `inf` if they do not reach it.

        Raises:
            TypeError: If a text is given in place of its words or tokens.
        """
        if self.unit != "character" and (isinstance(clean, str) or isinstance(attacked, str)):
            raise TypeError(f"distance counts {self.unit}s: give lists, such as text.split()")
        n, n_attacked = len(clean), len(attacked)
        if self.attacker == ALL_EDITS:
            return Levenshtein.distance(clean, attacked)
        if self.attacker == {"substitute"}:
            return Hamming.distance(clean, attacked) if n == n_attacked else math.inf
        if "substitute" not in self.attacker:
            indel = Indel.distance(clean, attacked)
            insertions = (indel + n_attacked - n) // 2
            deletions = indel - insertions
            legal = (deletions == 0 or "delete" in self.attacker) and (
                insertions == 0 or "insert" in self.attacker
            )
            return indel if legal else math.inf
        forbidden = n + n_attacked + 1
        weights = (
            1 if "insert" in self.attacker else forbidden,
            1 if "delete" in self.attacker else forbidden,
            1,
        )
        cost = Levenshtein.distance(clean, attacked, weights=weights)
        return cost if cost < forbidden else math.inf
