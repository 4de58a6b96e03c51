"""Accuracy and certified accuracy by length of the text, in classes that all methods share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robust_nlp.base_classifier import split_pair
from robust_nlp.compare.attacked import standing
from robust_nlp.compare.results import Comparison, MethodResults
from robust_nlp.compare.sandwich import certified_threats
from robust_nlp.mechanisms.base import IntArray
from robust_nlp.scoring.estimates import mean

#: Classes of length.
CLASSES = 4


def length_facts(found: Comparison, *, radius: int) -> dict[str, Any]:
    """Return accuracies in classes of length with about as many scored texts each.

    The length of a text is its number of words, of a pair that of the text that is open to edits.
    Classes are those of the scored texts; other stages may have fewer texts in a class, or none.

    Args:
        found: What the methods' runs hold.
        radius: Radius of the certified accuracy.

    Returns:
        `radius`; `classes`, each with `shortest` and `longest`; and for each method an estimate a
        class, `None` of no texts: `clean`, `attacked`, and `certified` by threat, with the number
        of `texts` each.
    """
    words = np.array(
        [
            len(split_pair(text, found.recipe.data.protected)[0].split())
            for text in found.split.texts
        ]
    )
    scored = next((m.measured for m in found.methods if m.measured is not None), None)
    if scored is None:
        return {"radius": radius, "classes": [], "methods": []}
    known = words[[i for i, _ in scored.examples]]
    shares = np.arange(1, CLASSES) / CLASSES
    edges = np.unique(np.quantile(known, shares, method="inverted_cdf"))
    edges = edges[edges < known.max()]
    member = np.searchsorted(edges, words)
    classes = [
        {"shortest": int(part.min()), "longest": int(part.max())}
        for index in range(len(edges) + 1)
        for part in [known[np.searchsorted(edges, known) == index]]
    ]
    return {
        "radius": radius,
        "classes": classes,
        "methods": [_method(method, member, len(classes), radius) for method in found.methods],
    }


def _method(method: MethodResults, member: IntArray, n: int, radius: int) -> dict[str, Any]:
    clean: dict[int, float] = {}
    if method.measured is not None:
        ids = (i for i, _ in method.measured.examples)
        clean = dict(zip(ids, method.measured.clean.shares.tolist(), strict=True))
    attacked: dict[int, float] = {}
    if method.attacked is not None:
        rows = method.attacked.worst()
        attacked = dict(zip((r.example_id for r in rows), standing(method.attacked), strict=True))
    texts = [] if method.report is None else method.report.texts
    return {
        "method": method.name,
        "clean": _by_class(clean, member, n),
        "attacked": _by_class(attacked, member, n) if attacked else None,
        "certified": {
            name: _by_class(
                {t.example_id: float(t.survives(attacker, radius)) for t in texts}, member, n
            )
            for name, (attacker, _) in certified_threats(method).items()
        },
    }


def _by_class(values: Mapping[int, float], member: IntArray, n: int) -> list[dict[str, Any]]:
    return [_estimate([v for i, v in values.items() if member[i] == index]) for index in range(n)]


def _estimate(values: Sequence[float]) -> dict[str, Any]:
    found = dataclasses.asdict(mean(values)) if values else None
    return {"texts": len(values), "accuracy": found}
