"""The facts of a study, as plain values: what study.json holds, and tables and sentences show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robust_nlp.recipe import recipe_to_dict
from robust_nlp.study.intervals import (
    Cells,
    excludes_zero,
    seed_averages,
    seed_differences,
    seed_interval,
    seed_lows,
    text_interval,
)
from robust_nlp.study.results import StudyResults, radii_of
from robust_nlp.study.runs import study_of
from robust_nlp.study.values import certified_name

#: Version of the layout of study.json.
SCHEMA = 1

#: Accuracy in the held-out domain where it is lowest.
WORST = "worst_accuracy"


def study_facts(results: StudyResults) -> dict[str, Any]:
    """Return everything that the report of a study says, ready for JSON."""
    recipe, study = results.recipe, study_of(results.recipe)
    names = measure_names(results)
    return {
        "schema": SCHEMA,
        "name": recipe.name,
        "control": study.control,
        "domains": list(results.domains),
        "seeds": list(study.seeds),
        "planned_runs": results.planned,
        "measured_runs": len(results.numbers),
        "left_out_runs": results.left_out,
        "measures": names,
        "radii": list(radii_of(recipe)),
        "variants": [variant_facts(results, name, names) for name in results.variants],
        "texts": {domain: _texts(results, domain) for domain in results.domains},
        "hosts": _hosts(results),
        "recipe": recipe_to_dict(recipe),
        "runs": [dict(results.numbers[key]) for key in sorted(results.numbers, key=str)],
    }


def measure_names(results: StudyResults) -> dict[str, str]:
    """Return the measures of a study, and what they are in words."""
    study = study_of(results.recipe)
    names = {
        "accuracy": "accuracy in held-out domains",
        WORST: "accuracy in the worst held-out domain",
        "seen_accuracy": "accuracy in the domains of training",
        "worst_seen_accuracy": "accuracy in the worst domain of training",
    }
    if study.deleted is not None:
        share = f"{100 * study.deleted:g} % of the words deleted"
        names["deleted_accuracy"] = f"held-out accuracy with {share}"
        names["robustness_score"] = f"robustness score: what accuracy loses with {share}"
    if study.certify is not None:
        for radius in radii_of(results.recipe):
            names[certified_name(radius)] = f"certified held-out accuracy at radius {radius}"
    if study.attack is not None:
        names["attacked_accuracy"] = f"held-out accuracy under {study.attack.recipe}"
    return names


def _hosts(results: StudyResults) -> list[dict[str, Any]]:
    """Return the machines that runs were made on, each once."""
    hosts: list[dict[str, Any]] = []
    for _, numbers in sorted(results.numbers.items(), key=str):
        if numbers["host"] and numbers["host"] not in hosts:
            hosts.append(dict(numbers["host"]))
    return hosts


def variant_facts(results: StudyResults, name: str, names: Mapping[str, str]) -> dict[str, Any]:
    """Return what is known of a variant, and how it differs from the control."""
    study = study_of(results.recipe)
    cells = results.cells(name, "accuracy")
    control = results.cells(study.control, "accuracy")
    by_domain = {
        domain: {**_over_seeds(cells, domain), **_against(cells, control, domain)}
        for domain in results.domains
    }
    means = {domain: each["accuracy"] for domain, each in by_domain.items() if each["seeds"]}
    worst = min(means, key=lambda domain: means[domain]) if means else None
    return {
        "variant": name,
        "changes": dict(study.variants[name]),
        "runs": len(cells),
        "complete": len(cells) == len(results.domains) * len(study.seeds),
        "domains": by_domain,
        "worst_domain": worst,
        "averages": {measure: _average(results, name, measure) for measure in names},
        "differences": {
            measure: difference(results, name, measure)
            for measure in names
            if name != study.control
        },
        "cost": _cost(results, name),
    }


def difference(results: StudyResults, name: str, measure: str) -> dict[str, Any] | None:
    """Return the mean difference between a variant and the control, and its intervals.

    Differences are taken between runs with the same held-out domain and seed, and averaged over
    domains, for the seeds that both have in all domains. `None` without such a seed.
    """
    control = study_of(results.recipe).control
    over = seed_lows if measure == WORST else seed_averages
    source = "accuracy" if measure == WORST else measure
    one, other = (over(results.cells(each, source), results.domains) for each in (name, control))
    paired = seed_differences(one, other)
    if not paired:
        return None
    over_seeds = seed_interval(list(paired.values()))
    over_texts = None
    if measure not in (WORST, "seen_accuracy", "worst_seen_accuracy"):
        texts = results.text_differences(name, control, measure, list(paired))
        over_texts = text_interval(texts, seed=results.recipe.seed)
    return {
        "difference": float(np.mean(list(paired.values()))),
        "by_seed": {str(seed): value for seed, value in paired.items()},
        "over_seeds": over_seeds,
        "over_texts": over_texts,
        "clear": excludes_zero(over_seeds) and (over_texts is None or excludes_zero(over_texts)),
    }


def training_seconds(training: Mapping[str, Any]) -> float | None:
    """Return the seconds of a training as if it had not been interrupted, if they are known.

    Of an interrupted one, the seconds since it went on are known; they stand for the others.
    """
    done = training["steps"] - training["resumed_at"]
    return float(training["seconds"]) * training["steps"] / done if done > 0 else None


def _over_seeds(cells: Cells, domain: str) -> dict[str, Any]:
    values = [value for (name, _), value in sorted(cells.items()) if name == domain]
    return {
        "accuracy": float(np.mean(values)) if values else None,
        "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "seeds": len(values),
    }


def _against(cells: Cells, control: Cells, domain: str) -> dict[str, Any]:
    """Return the difference in one domain, and its interval over seeds."""
    one, other = (
        {seed: value for (name, seed), value in each.items() if name == domain}
        for each in (cells, control)
    )
    paired = list(seed_differences(one, other).values())
    return {
        "difference": float(np.mean(paired)) if paired else None,
        "over_seeds": seed_interval(paired),
    }


def _average(results: StudyResults, name: str, measure: str) -> float | None:
    """Average over seeds, then over domains; `None` where a domain has no run.

    The worst domain is that of each seed.
    """
    if measure == WORST:
        lows = seed_lows(results.cells(name, "accuracy"), results.domains)
        return float(np.mean(list(lows.values()))) if lows else None
    cells = results.cells(name, measure)
    each = [[v for (d, _), v in cells.items() if d == domain] for domain in results.domains]
    return float(np.mean([np.mean(values) for values in each])) if all(each) else None


def _cost(results: StudyResults, name: str) -> dict[str, Any]:
    """Return what a training costs, also relative to the control with the same domain and seed.

    Medians over runs, which other work on the machine beside a few of them does not move. Passes,
    and the texts that they read, are those of the first process, and unknown for a training that
    was interrupted.
    """
    control = study_of(results.recipe).control
    cost: dict[str, Any] = {}
    for what in ("seconds", "passes", "texts_read"):
        own, others = (
            {
                key[1:]: value
                for key, numbers in results.numbers.items()
                if key[0] == each and (value := _spent(numbers["training"], what)) is not None
            }
            for each in (name, control)
        )
        times = [own[key] / others[key] for key in own if others.get(key)]
        cost[what] = float(np.median(list(own.values()))) if own else None
        cost[f"relative_{what}"] = float(np.median(times)) if times else None
    return cost


def _spent(training: Mapping[str, Any], what: str) -> float | None:
    return training_seconds(training) if what == "seconds" else training[what]


def _texts(results: StudyResults, domain: str) -> dict[str, Any]:
    """Return how many test texts of a domain there are, and were measured while it is held out."""
    for (_, held_out, _), numbers in sorted(results.numbers.items(), key=str):
        if held_out == domain:
            return {"measured": numbers["texts"]["held_out"], "repeats": numbers["repeats"]}
    return {"measured": None, "repeats": None}
