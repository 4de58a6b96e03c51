"""The certified ball around a text: its texts, one move after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from robust_nlp.threats import Move, ThreatModel

Units = tuple[str, ...]

#: What a search has seen of a ball: all of its texts; all whose new units are in a list of words;
#: or some.
Coverage = Literal["ball", "words", "sample"]

#: Attempts to find a move that stays inside the ball, per move that is asked for.
ATTEMPTS = 8

#: Where the attacker may write any unit, every other draw is among so many first ones of the list.
FAVOURITES = 12


@dataclass(frozen=True, kw_only=True)
class Ball:
    """All texts within a radius of a clean text, with new units from a list.

    Args:
        clean: The clean text, as units.
        threat: The attacker's moves, and what they cost.
        radius: Moves at most.
        words: What the attacker may write, the most promising first; unused where substitutes are
            limited to allowed ones.
        allowed: The allowed substitutes of each unit of the clean text; `None` for any.
    """

    clean: Units
    threat: ThreatModel
    radius: int
    words: Sequence[str] = ()
    allowed: Mapping[str, Collection[str]] | None = None

    @property
    def closed(self) -> bool:
        """Whether the ball has no texts with other new units than those that are known here."""
        writes = self.threat.attacker & {"insert", "substitute"}
        return not writes or self.radius == 0 or self.allowed is not None

    def __contains__(self, units: object) -> bool:
        return isinstance(units, tuple) and self.threat.distance(self.clean, units) <= self.radius

    def moves(self, units: Units) -> dict[Move, int]:
        """Return how many moves of each kind lead from a text to another, repeats included."""
        n, size = len(units), len(self.words)
        counts: dict[Move, int] = {
            "insert": (n + 1) * size,
            "delete": n,
            "substitute": n * size if self.allowed is None else len(self._options),
            "swap": max(0, n - 1),
            "reorder": n * (n - 1) // 2,
        }
        return {move: count for move, count in counts.items() if move in self.threat.attacker}

    def apply(self, units: Units, move: Move, index: int) -> Units:
        """Return the text after a move, by its index in `0..moves(units)[move]-1`."""
        if move == "insert":
            at, word = divmod(index, len(self.words))
            return (*units[:at], self.words[word], *units[at:])
        if move == "delete":
            return (*units[:index], *units[index + 1 :])
        if move == "substitute":
            if self.allowed is None:
                at, word = divmod(index, len(self.words))
                return (*units[:at], self.words[word], *units[at + 1 :])
            at, other = self._options[index]
            return (*units[:at], other, *units[at + 1 :])
        one, other_place = (index, index + 1) if move == "swap" else _pair(index)
        changed = list(units)
        changed[one], changed[other_place] = changed[other_place], changed[one]
        return tuple(changed)

    def texts(self, limit: int) -> list[Units] | None:
        """List the whole ball, the clean text first; `None` if it has more texts than the limit."""
        seen = dict.fromkeys([self.clean])
        layer = list(self._freely(seen, [self.clean], limit))
        for _ in range(self.radius):
            found: dict[Units, None] = {}
            for units in layer:
                for other in self._neighbours(units, free=False):
                    if other not in seen and other in self:
                        seen[other] = found[other] = None
                        if len(seen) > limit:
                            return None
            layer = list(self._freely(seen, list(found), limit))
            if not layer:
                break
        return None if len(seen) > limit else list(seen)

    def sample(self, units: Units, size: int, rng: np.random.Generator) -> list[Units]:
        """Return some texts of the ball that are one move away from one of its texts.

        Each kind of move has its share; all moves of a kind are returned where they are few.
        Insertions may also be taken back.
        """
        counts = {move: count for move, count in self.moves(units).items() if count}
        if "insert" in counts and units:
            counts["delete"] = len(units)
        found: dict[Units, None] = {}
        for i, (move, count) in enumerate(counts.items()):
            share = (size - len(found)) // (len(counts) - i)
            before = len(found)
            for index in self._indices(move, count, share, rng):
                other = self.apply(units, move, index)
                if other != units and other in self:
                    found[other] = None
                if len(found) - before >= share:
                    break
        return list(found)

    def walk(self, steps: int, rng: np.random.Generator) -> Units:
        """Return a text at the end of a random walk that stays inside the ball."""
        units = self.clean
        for _ in range(steps):
            nearby = self.sample(units, max(4, len(self.threat.attacker)), rng)
            if nearby:
                units = nearby[int(rng.integers(len(nearby)))]
        return units

    def _indices(
        self, move: Move, count: int, share: int, rng: np.random.Generator
    ) -> Iterator[int]:
        if count <= share:
            yield from range(count)
            return
        size = len(self.words)
        written = self.allowed is None and move in ("insert", "substitute")
        for attempt in range(ATTEMPTS * share):
            index = int(rng.integers(count))
            if written and attempt % 2:
                index += int(rng.integers(min(FAVOURITES, size))) - index % size
            yield index

    def _neighbours(self, units: Units, *, free: bool) -> Iterator[Units]:
        for move, count in self.moves(units).items():
            if (move == "reorder") == free:
                for index in range(count):
                    yield self.apply(units, move, index)

    def _freely(self, seen: dict[Units, None], texts: list[Units], limit: int) -> Iterator[Units]:
        """Add what free moves reach from the texts, and yield all."""
        while texts and len(seen) <= limit:
            units = texts.pop(0)
            yield units
            for other in self._neighbours(units, free=True):
                if other not in seen and len(seen) <= limit:
                    seen[other] = None
                    texts.append(other)

    @cached_property
    def _options(self) -> list[tuple[int, str]]:
        """List the places of the clean text with what may stand there, the clean unit included."""
        allowed = self.allowed or {}
        return [
            (i, other)
            for i, unit in enumerate(self.clean)
            for others in [allowed.get(unit, ())]
            if others
            for other in dict.fromkeys((unit, *others))
        ]


def _pair(index: int) -> tuple[int, int]:
    """Return the two places, the first below the second, that an index stands for."""
    second = 1
    while index >= second:
        index -= second
        second += 1
    return index, second
