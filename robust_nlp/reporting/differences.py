"""Two versions of a text, word by word: what stayed, what is gone, and what is new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein

Kind = Literal["same", "gone", "new"]

#: Words around a change that are shown; what is further away is left out.
AROUND = 8

LEFT_OUT = "…"


@dataclass(frozen=True)
class Piece:
    """A run of words that have the same fate."""

    kind: Kind
    text: str


def word_difference(before: str, after: str, *, around: int | None = AROUND) -> list[Piece]:
    """Return the words of two versions of a text, in as few changes of words as possible.

    A word that is replaced is gone, and the one in its place is new.

    Args:
        before: The text.
        after: Its other version.
        around: Unchanged words that are kept on each side of a change, at least 1; `None` keeps
            all.
    """
    old, new = before.split(), after.split()
    steps = list(Levenshtein.opcodes(old, new))
    pieces = []
    for place, step in enumerate(steps):
        gone, come = old[step.src_start : step.src_end], new[step.dest_start : step.dest_end]
        if step.tag == "equal":
            first, last = place == 0, place == len(steps) - 1
            pieces.append(Piece("same", _shortened(gone, around, first=first, last=last)))
        else:
            pieces += [Piece("gone", " ".join(gone))] if gone else []
            pieces += [Piece("new", " ".join(come))] if come else []
    return pieces


def _shortened(words: list[str], around: int | None, *, first: bool, last: bool) -> str:
    """Leave out the words that are far from a change, which the two ends of a text are not."""
    if around is None or (first and last):
        return " ".join(words)
    head, tail = 0 if first else around, 0 if last else around
    if len(words) <= head + tail + 1:
        return " ".join(words)
    return " ".join([*words[:head], LEFT_OUT, *words[len(words) - tail :]])
