"""Threat models: what the attacker may do, and the distance that counts it."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from rapidfuzz.distance import Hamming, Indel, Levenshtein

from robust_nlp.errors import did_you_mean

Unit = Literal["word", "character", "token"]
#: "insert", "delete" and "substitute" change one unit. "swap" exchanges two neighbouring units.
#: "reorder" puts all units in any order; it is free: distances and radii do not count it. Swaps are
#: counted, and so only ever alone: how few swaps and deletions together turn one text into another
#: is NP-hard to tell (Wagner 1975). With other moves, "reorder" covers any number of swaps.
Move = Literal["insert", "delete", "substitute", "swap", "reorder"]
Attacker = frozenset[Move]

UNITS: tuple[Unit, ...] = get_args(Unit)
MOVES: tuple[Move, ...] = get_args(Move)
ALL_EDITS: Attacker = frozenset({"insert", "delete", "substitute"})

#: The seven attackers that insert, delete and substitute, the strongest first.
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
        ValueError: If a name is not a move, none is given, or swaps come with other moves.
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
    if "swap" in chosen and len(chosen) > 1:
        raise ValueError(
            "an attacker that swaps is counted in swaps alone; with other moves write reorder, "
            f"any order at no cost; got {attacker_name(chosen)}"
        )
    return frozenset(chosen)


def attacker_name(attacker: Iterable[str]) -> str:
    """Name an attacker in a fixed order, such as "insert+delete+substitute"."""
    return "+".join(move for move in MOVES if move in set(attacker))


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """Count the fewest edits by which an attacker turns a clean text into another.

    The moves are the attacker's own, from clean to attacked: `{"insert"}` is somebody who adds
    words to the clean text. An attacker that may "reorder" does so freely: only its other moves
    are counted.
    """

    attacker: Attacker = ALL_EDITS
    unit: Unit = "word"
    #: Which units may replace a unit; `None` for any.
    substitutes: Callable[[str], Collection[str]] | None = field(
        default=None, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "attacker", parse_attacker(self.attacker))
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}; got {self.unit!r}")

    @property
    def name(self) -> str:
        """Say the threat in words, such as "word edits (insert+delete)"."""
        counted = attacker_name(self.attacker - {"reorder"}) or "none"
        order = f", {self.unit}s in any order" if "reorder" in self.attacker else ""
        within = "" if self.substitutes is None else ", by allowed substitutes only"
        return f"{self.unit} edits ({counted}){order}{within}"

    def distance(self, clean: Sequence[Hashable], attacked: Sequence[Hashable]) -> float:
        """Return the fewest moves from clean to attacked units; `inf` if they do not reach it.

        Reordering is not counted.

        Raises:
            TypeError: If a text is given in place of its words or tokens.
        """
        if self.unit != "character" and (isinstance(clean, str) or isinstance(attacked, str)):
            raise TypeError(f"distance counts {self.unit}s: give lists, such as text.split()")
        n, n_attacked = len(clean), len(attacked)
        if self.substitutes is not None and not self._allowed(clean, attacked):
            return math.inf
        if self.attacker == {"swap"}:
            return _swaps(clean, attacked)
        if "reorder" in self.attacker:
            common = (Counter(clean) & Counter(attacked)).total()
            return self._cost(n_attacked - common, n - common)
        if self.attacker == ALL_EDITS:
            return Levenshtein.distance(clean, attacked)
        if self.attacker == {"substitute"}:
            return Hamming.distance(clean, attacked) if n == n_attacked else math.inf
        if "substitute" not in self.attacker:
            indel = Indel.distance(clean, attacked)
            insertions = (indel + n_attacked - n) // 2
            return self._cost(insertions, indel - insertions)
        forbidden = n + n_attacked + 1
        weights = (
            1 if "insert" in self.attacker else forbidden,
            1 if "delete" in self.attacker else forbidden,
            1,
        )
        cost = Levenshtein.distance(clean, attacked, weights=weights)
        return cost if cost < forbidden else math.inf

    def _allowed(self, clean: Sequence[Hashable], attacked: Sequence[Hashable]) -> bool:
        """Tell whether every changed unit is an allowed substitute of the one before."""
        if len(clean) != len(attacked):
            return False
        find = self.substitutes or (lambda _: ())
        changed = [pair for pair in zip(clean, attacked, strict=True) if pair[0] != pair[1]]
        return all(new in find(str(old)) for old, new in changed)

    def _cost(self, gained: int, lost: int) -> float:
        """Count the moves that bring new units and take old ones away, in whatever order."""
        substitutions = min(gained, lost) if "substitute" in self.attacker else 0
        insertions, deletions = gained - substitutions, lost - substitutions
        if insertions and "insert" not in self.attacker:
            return math.inf
        if deletions and "delete" not in self.attacker:
            return math.inf
        return insertions + deletions + substitutions


def _swaps(clean: Sequence[Hashable], attacked: Sequence[Hashable]) -> float:
    """Count the fewest swaps of neighbours: pairs of units in another order (Kendall's tau).

    Equal units keep their order, since to exchange two of them is a waste.
    """
    if Counter(clean) != Counter(attacked):
        return math.inf
    places: defaultdict[Hashable, deque[int]] = defaultdict(deque)
    for place, unit in enumerate(clean):
        places[unit].append(place)
    seen: list[int] = []
    swaps = 0
    for unit in attacked:
        place = places[unit].popleft()
        swaps += len(seen) - bisect_right(seen, place)
        insort(seen, place)
    return swaps
