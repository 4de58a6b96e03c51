"""The results of a report as entries of `model-index`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

Facts = Mapping[str, Any]

#: Types of metrics that only this package writes.
OWN = ("certified_accuracy", "robustness_score", "robust_accuracy", "attack_success_rate")

#: Digits of a value.
DIGITS = 4


def eval_results(facts: Facts) -> list[EvalResult]:
    """Return the results of the classifier; none without labels.

    Values are shares in `[0, 1]`, differences of shares for robustness scores. `metric_args` say
    what they hold for; `interval_95` is over texts like these.

    Args:
        facts: What `RobustnessReport.to_dict` returns.
    """
    from huggingface_hub import EvalResult

    if not facts["labelled"]:
        return []
    data = facts["methods"]["data"]
    where = {
        "task_type": "text-classification",
        "task_name": "Text classification",
        **data_of(data),
        "dataset_split": data["split"],
    }
    return [EvalResult(**where, **each) for each in (*_certified(facts), *_measured(facts))]


def data_of(data: Facts) -> dict[str, Any]:
    """Name a data set as metadata do, without paths of this machine."""
    if data["path"] is None:
        file = Path(data["files"].get(data["split"], "")).name
        return {"dataset_type": "local", "dataset_name": f"local file {file}"}
    return {
        "dataset_type": data["path"],
        "dataset_name": data["path"],
        "dataset_config": data["config"],
        "dataset_revision": data["revision"],
    }


def measured_of(facts: Facts) -> str:
    """Return whose scores and attacks a card shows: "smoothed", or "plain" without certificates."""
    return str(facts.get("of", "smoothed"))


def own_scores(facts: Facts) -> list[tuple[str, Facts, Facts]]:
    """Return name, curve and point at the largest rate of each score of the classifier."""
    curves = (facts["scores"] or {}).get("scores", ())
    return [
        (curve["perturbation"], curve, curve["points"][-1])
        for curve in curves
        if curve["classifier"] == measured_of(facts)
    ]


def own_attacks(facts: Facts) -> Facts | None:
    """Return what attacks on the classifier came to; `None` without any."""
    found: Facts | None = (facts["attacks"] or {}).get("classifiers", {}).get(measured_of(facts))
    return found


def _certified(facts: Facts) -> Iterator[dict[str, Any]]:
    for attacker in facts["attackers"]:
        points = {point["radius"]: point for point in attacker["curve"]}
        for radius in attacker["table"]:
            point = points[radius]
            arguments = {
                "radius": radius,
                "unit": facts["unit"],
                "attacker": attacker["attacker"],
                "allowed_substitutes_only": attacker["allowed_only"],
                "alpha": facts["alpha"],
                "texts": facts["counts"]["texts"],
                "interval_95": [round(point["low"], DIGITS), round(point["high"], DIGITS)],
            }
            name = f"Certified accuracy at radius {radius} ({attacker['attacker']})"
            yield _result("certified_accuracy", name, point["share"], arguments)
    if not facts["attackers"]:
        return
    accuracy = facts["accuracy"]
    arguments = {
        "texts": facts["counts"]["texts"],
        "abstentions": "wrong",
        "interval_95": [round(accuracy["low"], DIGITS), round(accuracy["high"], DIGITS)],
    }
    yield _result("accuracy", "Smoothed accuracy", accuracy["share"], arguments)


def _measured(facts: Facts) -> Iterator[dict[str, Any]]:
    if not facts["attackers"] and facts["scores"] is not None:
        clean = facts["scores"]["clean"].get(measured_of(facts))
        if clean is not None:
            arguments = {
                "texts": facts["scores"]["texts"],
                "interval_95": _interval(clean["accuracy"]),
            }
            yield _result("accuracy", "Accuracy", clean["accuracy"]["value"], arguments)
    for name, curve, point in own_scores(facts):
        arguments = {
            "perturbation": name,
            "rate": point["rate"],
            "draws": curve["draws"],
            "texts": facts["scores"]["texts"],
            "interval_95": _interval(point["score"]),
        }
        said = f"Robustness score, {name} at rate {point['rate']:g}"
        yield _result("robustness_score", said, point["score"]["value"], arguments)
    attacked = own_attacks(facts)
    if attacked is None:
        return
    worst = attacked["worst_case"]
    arguments = {"attacks": list(attacked["attacks"]), "texts": worst["examples"]}
    for kind, said in (
        ("robust_accuracy", "Robust accuracy under attack"),
        ("attack_success_rate", "Attack success rate"),
    ):
        if worst[kind] is not None:
            more = {**arguments, "interval_95": _interval(worst[kind])}
            yield _result(kind, said, worst[kind]["value"], more)


def _interval(estimate: Facts) -> list[float]:
    return [round(estimate["low"], DIGITS), round(estimate["high"], DIGITS)]


def _result(kind: str, name: str, value: float, arguments: Facts) -> dict[str, Any]:
    return {
        "metric_type": kind,
        "metric_name": name,
        "metric_value": round(float(value), DIGITS),
        "metric_args": dict(arguments),
    }
