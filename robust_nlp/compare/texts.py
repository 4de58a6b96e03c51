"""The most fragile and the most stable texts over all methods, with their adversarial versions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robust_nlp.base_classifier import Text, split_pair
from robust_nlp.compare.results import Comparison, MethodResults
from robust_nlp.reporting.breakdown import EXTREMES, class_name
from robust_nlp.scoring.measured import area
from robust_nlp.scoring.store import ScoreStore
from robust_nlp.scoring.tables import CLEAN

Version = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What became of one text under one method.

    Attributes:
        method: Name of the method.
        right: Whether the clean text is answered rightly.
        radius: Its certified radius against the first attacker, `None` without a right certificate.
        kept: Share of right answers along the curves of perturbations, on average, in `[0, 1]`.
        attacked: The confirmed find of an attack with the fewest edits, if there is one.
    """

    method: str
    right: bool
    radius: int | None
    kept: float
    attacked: Version | None


def text_facts(found: Comparison) -> dict[str, Any]:
    """Return the most fragile and the most stable texts, none of them in both.

    Counted are texts that every stage measured for every method. The most fragile one is answered
    rightly by at least one method, and broken by attacks under the most of them, then in the fewest
    edits, then keeps the fewest right answers under perturbations. The most stable one is answered
    rightly by all methods, none of which an attack broke; then it keeps the most right answers,
    then has the largest radii.

    Returns:
        `texts`, how many were counted; `fragile` and `stable`, each with the number of the text,
        the text that is open to edits and its partner if texts may be quoted, its label, and its
        fate under each method with the adversarial `version` that has the fewest edits: of an
        attack, confirmed by its judge; else a perturbed version that was answered wrongly, if the
        clean one was not.
    """
    methods = [method for method in found.methods if method.measured is not None]
    counted = _measured_by_all(methods)
    fates = [_fates(method, counted) for method in methods]
    by_text = {i: [of_method[i] for of_method in fates] for i in counted}
    fragile = sorted(
        (i for i, each in by_text.items() if any(map(_lost, each))),
        key=lambda i: (_fragility(by_text[i]), i),
    )[:EXTREMES]
    stable = sorted(
        (
            i
            for i, each in by_text.items()
            if i not in fragile and all(fate.right and fate.attacked is None for fate in each)
        ),
        key=lambda i: (_instability(by_text[i]), i),
    )[:EXTREMES]
    versions = {method.name: _perturbed(method, fragile + stable) for method in methods}
    labels = _true_classes(methods[0]) if methods else {}
    return {
        "texts": len(counted),
        "fragile": [_described(found, i, labels[i], by_text[i], versions) for i in fragile],
        "stable": [_described(found, i, labels[i], by_text[i], versions) for i in stable],
    }


def _measured_by_all(methods: Sequence[MethodResults]) -> list[int]:
    known: list[set[int]] = []
    for method in methods:
        assert method.measured is not None
        known.append({i for i, _ in method.measured.examples})
        if method.report is not None:
            known.append({text.example_id for text in method.report.texts})
        if method.attacked is not None:
            known.append({row.example_id for row in method.attacked.worst()})
    return sorted(set.intersection(*known)) if known else []


def _true_classes(method: MethodResults) -> dict[int, str | None]:
    """Return the class of each scored text, by the names and in the order of the classifier."""
    assert method.measured is not None
    pairs = zip(method.measured.examples, method.measured.labels.tolist(), strict=True)
    return {i: class_name(_labels(method), label) for (i, _), label in pairs}


def _fates(method: MethodResults, counted: Sequence[int]) -> dict[int, Fate]:
    measured, attacked = method.measured, _attacked(method)
    assert measured is not None
    curves = [area(measured.clean, curve) for curve in measured.curves.values()]
    kept = np.mean(curves, axis=0) if curves else measured.clean.shares
    places = {example: place for place, (example, _) in enumerate(measured.examples)}
    texts = [] if method.report is None else method.report.texts
    radii = {text.example_id: text.first.radius for text in texts if text.right}
    return {
        i: Fate(
            method=method.name,
            right=bool(measured.clean.right[places[i], 0]),
            radius=radii.get(i),
            kept=float(kept[places[i]]),
            attacked=attacked.get(i),
        )
        for i in counted
    }


def _attacked(method: MethodResults) -> dict[int, Version]:
    """Return for each text that an attack broke the find with the fewest edits."""
    parts = [] if method.attacked is None else list(method.attacked.rows.values())
    won = [row for part in parts for row in part if row.outcome == "success"]
    won.sort(key=lambda row: (row.edits or 0, row.attack))
    found: dict[int, Version] = {}
    for row in won:
        version = {
            "by": row.attack,
            "confirmed": True,
            "edits": row.edits,
            "predicted": class_name(_labels(method), row.found_predicted),
            "text": row.found,
        }
        found.setdefault(row.example_id, version)
    return found


def _lost(fate: Fate) -> bool:
    """Tell whether a right answer was lost."""
    return fate.right and (fate.attacked is not None or fate.kept < 1.0)


def _fragility(fates: Sequence[Fate]) -> tuple[float, ...]:
    broken = [fate.attacked for fate in fates if fate.attacked is not None]
    edits = min((version["edits"] for version in broken), default=math.inf)
    return (-len(broken), edits, float(np.mean([fate.kept for fate in fates])))


def _instability(fates: Sequence[Fate]) -> tuple[float, ...]:
    radii = [fate.radius or 0 for fate in fates]
    return (-float(np.mean([fate.kept for fate in fates])), -float(np.mean(radii)))


def _perturbed(method: MethodResults, wanted: Sequence[int]) -> dict[int, Version]:
    """Return for each text the wrongly answered perturbed version with the fewest edits."""
    rows = ScoreStore(method.run.path).rows() if wanted else []
    best: dict[int, Mapping[str, Any]] = {}
    for row in rows:
        wrong = row["predicted"] is not None and row["predicted"] != row["label"]
        if row["perturbation"] == CLEAN or row["example_id"] not in wanted or not wrong:
            continue
        before = best.get(row["example_id"])
        if row["edits"] and (before is None or row["edits"] < before["edits"]):
            best[row["example_id"]] = row
    return {
        i: {
            "by": row["perturbation"],
            "confirmed": False,
            "edits": row["edits"],
            "predicted": class_name(_labels(method), row["predicted"]),
            "text": row["text"],
        }
        for i, row in best.items()
    }


def _described(
    found: Comparison,
    i: int,
    label: str | None,
    fates: Sequence[Fate],
    versions: Mapping[str, Mapping[int, Version]],
) -> dict[str, Any]:
    quoted = found.recipe.report.texts
    whole: Text = found.split.texts[i]
    text, pair = split_pair(whole, found.recipe.data.protected)

    def version(fate: Fate) -> Version | None:
        other = versions[fate.method].get(i) if fate.right else None
        chosen = fate.attacked or other
        return chosen if chosen is None or quoted else {**chosen, "text": None}

    return {
        "example_id": i,
        "text": text if quoted else None,
        "pair": pair if quoted else None,
        "label": label,
        "methods": [
            {
                "method": fate.method,
                "right": fate.right,
                "radius": fate.radius,
                "kept": fate.kept,
                "version": version(fate),
            }
            for fate in fates
        ],
    }


def _labels(method: MethodResults) -> list[str]:
    return [] if method.scores is None else list(method.scores["labels"])
