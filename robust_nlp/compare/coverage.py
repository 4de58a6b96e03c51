"""Whether the first texts of a split, which are measured, are like the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from robust_nlp.compare.settings import Measuring
from robust_nlp.data import Split
from robust_nlp.reporting.breakdown import class_name

#: Texts from which on, and by how much the share of a class or domain among those that are measured
#: must differ from its share of the split, to say so. Less is chance.
TEXTS, SKEW = 20, 0.25


def skews(split: Split, texts: Mapping[Measuring, int]) -> list[dict[str, Any]]:
    """Return classes and domains that are missing from what is measured, or far from their share.

    Args:
        split: All texts.
        texts: How many of them each stage measures, the first ones.

    Returns:
        By stage: `of`, "class" or "domain"; the name; `share` among the measured texts, and
        `share_of_split`.
    """
    names = [class_name(split.label_names or (), label) for label in split.labels or ()]
    found = []
    for stage, size in texts.items():
        for of, values in (("class", names), ("domain", split.domains or [])):
            for name, share, whole in _skews([v for v in values[:size] if v], values):
                found.append(
                    {
                        "stage": stage,
                        "of": of,
                        "name": name,
                        "share": share,
                        "share_of_split": whole,
                    }
                )
    return found


def _skews(measured: Sequence[str], values: Sequence[str | None]) -> list[tuple[str, float, float]]:
    if len(measured) < TEXTS:
        return []
    here, all_ = Counter(measured), Counter(value for value in values if value is not None)
    n = sum(all_.values())
    return [
        (name, here[name] / len(measured), count / n)
        for name, count in sorted(all_.items())
        if _missing(here[name], len(measured), count / n)
        or abs(here[name] / len(measured) - count / n) > SKEW
    ]


def _missing(here: int, n: int, share: float) -> bool:
    """Tell whether none is here although that would be chance once in a thousand times at most."""
    return here == 0 and (1.0 - share) ** n < 1e-3
