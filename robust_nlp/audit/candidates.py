"""What an attacker may want to write: units that speak for another class, and odd ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from robust_nlp.threats import Unit

#: Units that are worth a try on any classifier: punctuation, a negation, and a unit without any
#: visible character, which tokenizers tend to drop.
ODD: dict[Unit, tuple[str, ...]] = {
    "word": (".", "!", "not", "but", "\N{ZERO WIDTH SPACE}"),
    "character": (" ", ".", "!", "\N{ZERO WIDTH SPACE}"),
    "token": (),
}


def telling_units(
    texts: Sequence[Sequence[str]],
    classes: Sequence[int],
    certified: int,
    *,
    size: int,
    odd: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the units that speak most for any class but the certified one.

    Units are ranked by how much more frequent, in standard errors of the log odds, they are in
    texts of the other classes. Without such texts, the most frequent units come first.

    Args:
        texts: Texts as units.
        classes: The class of each text, such as its smoothed answer.
        certified: The certified class.
        size: Units at most.
        odd: Units that are taken in any case; they come last.
    """
    odd = tuple(dict.fromkeys(odd))[:size]
    own: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for units, answer in zip(texts, classes, strict=True):
        (own if answer == certified else others).update(set(units))
    n_own = sum(answer == certified for answer in classes)
    n_others = len(classes) - n_own

    def rank(unit: str) -> tuple[float, str]:
        here, there = own[unit], others[unit]
        if not n_others:
            return (-float(here), unit)
        odds = math.log((there + 0.5) / (n_others - there + 0.5))
        odds -= math.log((here + 0.5) / (n_own - here + 0.5))
        error = math.sqrt(1.0 / (there + 0.5) + 1.0 / (here + 0.5))
        return (-odds / error, unit)

    ranked = sorted((unit for unit in own | others if unit not in odd), key=rank)
    return (*ranked[: size - len(odd)], *odd)
