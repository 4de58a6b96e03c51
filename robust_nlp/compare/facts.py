"""The facts of a comparison, as plain values: what compare.json holds, and tables show."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from robust_nlp.audit.facts import QUOTED as AUDIT_QUOTED
from robust_nlp.compare.attacked import attacks, hidden, standing
from robust_nlp.compare.costs import cost_facts
from robust_nlp.compare.coverage import skews
from robust_nlp.compare.front import Point, dominating, pareto_front
from robust_nlp.compare.methods import comparison_of
from robust_nlp.compare.results import Comparison, MethodResults
from robust_nlp.recipe import recipe_to_dict
from robust_nlp.reporting.accuracy import table_radii
from robust_nlp.reporting.breakdown import class_name
from robust_nlp.reporting.same_answer import SameAnswer
from robust_nlp.scoring.estimates import difference, mean
from robust_nlp.scoring.measured import ABSTAINS
from robust_nlp.scoring.perturbations import DeleteWords
from robust_nlp.scoring.tables import compare

#: Version of the layout of compare.json.
SCHEMA = 1

#: Radii in one table, unless the recipe names more.
COLUMNS = 9

#: What of a run's own report stands in compare.json.
OF_REPORT = (
    "unit",
    "alpha",
    "summary",
    "counts",
    "lengths",
    "classes",
    "most_stable",
    "most_fragile",
    "audit",
    "methods",
)


def comparison_facts(found: Comparison) -> dict[str, Any]:
    """Return everything that the report of a comparison says, ready for JSON."""
    recipe, comparison = found.recipe, comparison_of(found.recipe)
    baseline = next(m for m in found.methods if m.name == comparison.baseline)
    methods = [method_facts(found, method, baseline) for method in found.methods]
    return {
        "schema": SCHEMA,
        "name": recipe.name,
        "baseline": comparison.baseline,
        "texts": dict(found.sizes.texts),
        "data": {
            "split": found.split.name,
            "rows": len(found.split),
            "description": found.split.description,
            "content_hash": found.split.content_hash,
            "skews": skews(found.split, found.sizes.texts),
        },
        "sizes": found.sizes.to_dict(),
        "processes": found.processes,
        "left_out": dict(found.left_out),
        "threats": threats(methods),
        "radii": radii(recipe.report.radii, methods),
        "perturbations": perturbations(methods),
        "methods": methods,
        "fronts": fronts(recipe.report.radii, methods),
        "seed": recipe.seed,
        "plan": recipe_to_dict(recipe)["certify"]["plan"],
        "recipe": recipe_to_dict(recipe),
    }


def method_facts(found: Comparison, method: MethodResults, baseline: MethodResults) -> Any:
    """Return what is known of a method, and how it differs from the baseline, text by text."""
    run, scores = method.run, method.scores
    comparison = comparison_of(found.recipe)
    quoted = found.recipe.report.texts
    domains = _domains(found, method)
    report = _report(found, method)
    return {
        "method": method.name,
        "changes": dict(run.method.set),
        "smoothed": run.method.smoothed,
        "model_of": run.method.model_of,
        "start_from": run.method.start_from,
        "noise": run.recipe.mechanism.to_dict() if run.method.smoothed else None,
        "denoised": run.recipe.denoiser is not None,
        "trained_under_noise": run.trains and run.recipe.train.noise,
        "folder": method.name,
        "missing": dict(method.missing),
        "clean_accuracy": None if scores is None else _only(scores["clean"])["accuracy"],
        "abstained": None if scores is None else _only(scores["clean"])["abstained"],
        "same_answer": _same_answer(method),
        "domains": domains,
        "worst_domain": min(
            domains, key=lambda each: (each["accuracy"]["value"], each["domain"]), default=None
        ),
        "scores": [] if scores is None else scores["scores"],
        "certified": None if report is None else certified(report),
        "report": None if report is None else {name: report[name] for name in OF_REPORT},
        "attacks": None if method.attacked is None else attacks(method, quoted=quoted),
        "cost": cost_facts(comparison, found.methods, method),
        "against_baseline": None if method is baseline else against(method, baseline),
    }


def _report(found: Comparison, method: MethodResults) -> dict[str, Any] | None:
    """Return the report of a method, with the radii and the texts that the comparison shows."""
    if method.report is None:
        return None
    recipe = dataclasses.replace(method.report.recipe, report=found.recipe.report)
    report = dataclasses.replace(method.report, recipe=recipe).to_dict()
    if report["audit"] is not None and not found.recipe.report.texts:
        report["audit"] = {
            **report["audit"],
            "contradictions": hidden(report["audit"]["contradictions"], AUDIT_QUOTED),
        }
    return report


def threat_name(attacker: str, *, unit: str, allowed_only: bool) -> str:
    """Name what a certificate is against: certificates with equal names may be compared."""
    name = attacker if unit == "word" else f"{attacker} of {unit}s"
    return f"{name} by allowed words" if allowed_only else name


def certified(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the curves of certified accuracy of a report, by what they are against.

    Args:
        report: See `RobustnessReport.to_dict`.
    """
    return {
        threat_name(a["attacker"], unit=report["unit"], allowed_only=a["allowed_only"]): a
        for a in report["attackers"]
    }


def certified_at(curve: Mapping[str, Any], radius: int) -> float:
    """Return the certified accuracy at a radius; beyond the largest it is 0."""
    return next((p["share"] for p in curve["curve"] if p["radius"] == radius), 0.0)


def threats(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what there are certificates against, in the order of the methods."""
    return list(dict.fromkeys(name for m in methods for name in m["certified"] or {}))


def main_threats(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the first threat that each method certifies against, each once."""
    first = [next(iter(m["certified"])) for m in methods if m["certified"]]
    return list(dict.fromkeys(first))


def radii(
    chosen: Sequence[int] | None, methods: Sequence[Mapping[str, Any]]
) -> dict[str, list[int]]:
    """Return the radii of the table of each threat: those of the recipe, or up to the largest."""
    found = {}
    for threat in threats(methods):
        curves = [m["certified"][threat] for m in methods if threat in (m["certified"] or {})]
        largest = max(curve["largest_radius"] or 0 for curve in curves)
        found[threat] = (
            table_radii(largest, at_most=COLUMNS) if chosen is None else sorted(set(chosen))
        )
    return found


def perturbations(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the perturbations of the scores."""
    return list(dict.fromkeys(s["perturbation"] for m in methods for s in m["scores"]))


def score_of(method: Mapping[str, Any], perturbation: str) -> dict[str, Any] | None:
    """Return what is known of a method under a perturbation."""
    return next((s for s in method["scores"] if s["perturbation"] == perturbation), None)


def against(method: MethodResults, baseline: MethodResults) -> dict[str, Any]:
    """Return by how much a method differs from the baseline, on the same texts, with intervals."""
    found: dict[str, Any] = {"scores": [], "attacked": None}
    if method.measured is not None and baseline.measured is not None:
        found["scores"] = compare(method.measured, baseline.measured)
    if method.attacked is not None and baseline.attacked is not None:
        pair = (standing(method.attacked), standing(baseline.attacked))
        found["attacked"] = dataclasses.asdict(difference(*pair))
    return found


def told_radius(chosen: Sequence[int] | None) -> int:
    """Return the radius of numbers that stand for a whole curve: the first of at least 1."""
    return next((r for r in sorted(chosen or ()) if r >= 1), 1)


def fronts(
    chosen: Sequence[int] | None, methods: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the Pareto fronts of robustness against the seconds of an answer.

    Robustness is the certified accuracy at the first radius of at least 1 against each threat, the
    accuracy under the worst attack, and the mean accuracy as words are deleted. A plain classifier
    certifies nothing. Methods that certify something else only are left out of a front, and so are
    those that hardly read a text: nothing is harder to fool than one and the same answer.
    """
    radius = told_radius(chosen)
    found = []
    for threat in threats(methods):
        values: dict[str, float | None] = {}
        for m in methods:
            if m["certified"] is None:
                values[m["method"]] = None if m["smoothed"] else 0.0
            elif threat in m["certified"]:
                values[m["method"]] = certified_at(m["certified"][threat], radius)
            else:
                values[m["method"]] = None
        found.append(_front("certified", values, methods, threat=threat, radius=radius))
    attacked = {m["method"]: m["attacks"] and _value(m["attacks"]["worst_case"]) for m in methods}
    found.append(_front("attacked", attacked, methods))
    for name in perturbations(methods):
        if name.startswith(DeleteWords.kind):
            areas = {m["method"]: _area(score_of(m, name)) for m in methods}
            found.append(_front("deleted", areas, methods, perturbation=name))
    return [front for front in found if len(front["points"]) > 1]


def _front(
    kind: str,
    values: Mapping[str, float | None],
    methods: Sequence[Mapping[str, Any]],
    *,
    threat: str | None = None,
    radius: int | None = None,
    perturbation: str | None = None,
) -> dict[str, Any]:
    costs = {m["method"]: m["cost"]["answer"] for m in methods}
    known = {n: v for n, v in values.items() if v is not None and costs[n] is not None}
    same = [m["method"] for m in methods if m["method"] in known and hardly_reads(m)]
    points = [
        Point(method=name, robustness=value, cost=costs[name]["seconds"])
        for name, value in known.items()
        if name not in same
    ]
    return {
        "kind": kind,
        "threat": threat,
        "radius": radius,
        "perturbation": perturbation,
        "points": [dataclasses.asdict(point) for point in points],
        "front": [point.method for point in pareto_front(points)],
        "dominated": dominating(points),
        "same_answer": same,
    }


def hardly_reads(method: Mapping[str, Any]) -> bool:
    """Tell whether a method gives nearly all texts the same answer; see `SameAnswer`."""
    found = method["same_answer"]
    return found is not None and found["hardly_reads"]


def _same_answer(method: MethodResults) -> dict[str, Any] | None:
    """Return the class that a method gives the scored texts most often."""
    if method.measured is None or method.scores is None:
        return None
    predicted = method.measured.clean.predicted[:, 0]
    answered = predicted != ABSTAINS
    labels = method.measured.labels[answered].tolist()
    same = SameAnswer.of(predicted[answered].tolist(), labels)
    if same is None:
        return None
    return {
        "class": class_name(method.scores["labels"], same.label),
        "answers": same.answers,
        "answered": same.answered,
        "share": same.answers / same.answered,
        "true": same.true,
        "hardly_reads": same.hardly_reads,
    }


def _domains(found: Comparison, method: MethodResults) -> list[dict[str, Any]]:
    """Return the clean accuracy in each domain, in alphabetical order."""
    names, measured = found.split.domains, method.measured
    if names is None or measured is None:
        return []
    by: dict[str, list[float]] = {}
    for (i, _), share in zip(measured.examples, measured.clean.shares.tolist(), strict=True):
        name = names[i]
        if name is not None:
            by.setdefault(name, []).append(share)
    return [
        {"domain": name, "texts": len(by[name]), "accuracy": dataclasses.asdict(mean(by[name]))}
        for name in sorted(by)
    ]


def _value(estimate: Mapping[str, float] | None) -> float | None:
    return None if estimate is None else estimate["value"]


def _area(score: Mapping[str, Any] | None) -> float | None:
    return None if score is None else score["area"]["value"]


def _only(by_classifier: Mapping[str, Any]) -> Any:
    (value,) = by_classifier.values()
    return value
