"""A comparison that takes seconds: made-up reviews of three domains, and a tiny classifier."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from study_reviews import tiny_values

from robust_nlp.attacks.report import AttackReport
from robust_nlp.attacks.rows import AttackRow
from robust_nlp.compare.methods import method_runs
from robust_nlp.compare.results import Comparison, MethodResults
from robust_nlp.compare.sizes import Sizes
from robust_nlp.data import Split, load_split
from robust_nlp.recipe import Recipe, recipe_from_dict

#: Texts of each stage.
SCORED, CERTIFIED = 10, 9

METHODS: dict[str, Any] = {
    "none": {"smoothed": False, "set": {"train.noise": False}},
    "deletion": {},
    "untrained": {"model_of": "none"},
    "masking": {"set": {"mechanism": {"kind": "random_masking", "p_mask": 0.8}}},
}


def compare_recipe(folder: Path, **compare: Any) -> Recipe:
    """Write data and model to a folder, and return a comparison of methods on them."""
    return recipe_from_dict(
        {
            **tiny_values(folder, max_steps=3),
            "name": "tiny-compare",
            "certify": {
                "plan": {"kind": "fixed", "n_selection": 5, "n_estimation": 20, "alpha": 0.05},
                "limit": CERTIFIED,
                "part_size": 4,
            },
            "score": {
                "limit": SCORED,
                "part_size": 4,
                "perturbations": [
                    {"kind": "delete_words", "rates": [0.3, 0.6]},
                    {"kind": "delete_words", "order": "most_important", "rates": [0.3, 0.6]},
                ],
                "plan": {"kind": "fixed", "n_selection": 3, "n_estimation": 12, "alpha": 0.05},
            },
            "compare": {
                "baseline": "none",
                "methods": METHODS,
                "stages": ["score", "certify"],
                "timed": 2,
                **compare,
            },
        }
    )


def with_compare(recipe: Recipe, **changes: Any) -> Recipe:
    assert recipe.compare is not None
    return dataclasses.replace(recipe, compare=dataclasses.replace(recipe.compare, **changes))


def facts_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "compare.json").read_text(encoding="utf-8"))


def without_times(facts: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the clock or the command."""
    kept = {name: facts[name] for name in ("texts", "threats", "radii", "data", "perturbations")}
    dropped = ("cost", "report")
    methods = [{k: v for k, v in m.items() if k not in dropped} for m in facts["methods"]]
    return {**kept, "methods": methods}


#: An attack on the first six texts: how it ended, the words that it put in the place of the first
#: ones, and those that it put behind the last one. Two answers were wrong or missing before.
TRIED: list[tuple[str, int, int]] = [
    ("success", 1, 0),
    ("skipped", 0, 0),
    ("abstains", 0, 0),
    ("success", 0, 2),
    ("failed", 0, 0),
    ("uncertain", 0, 0),
]


def attacked(method: MethodResults, split: Split, **certificates: Any) -> MethodResults:
    """Return a method as if it had been attacked as `TRIED` says."""
    assert split.labels is not None
    rows = []
    for i, (outcome, swapped, added) in enumerate(TRIED):
        text, label = split.texts[i], split.labels[i]
        assert isinstance(text, str)
        words = [f"odd{k}" for k in range(swapped)] + text.split()[swapped:]
        found = " ".join(words + [f"more{k}" for k in range(added)])
        won = outcome == "success"
        clean = {"skipped": 1 - label, "abstains": None}.get(outcome, label)
        rows.append(
            AttackRow(
                attack="made-up",
                example_id=i,
                label=label,
                outcome="skipped" if outcome == "abstains" else outcome,  # type: ignore[arg-type]
                text=text,
                clean_predicted=clean,
                found=found if won else None,
                found_predicted=1 - label if won else None,
                edits=swapped + added if won else None,
            )
        )
    report = AttackReport(rows={"made-up": rows}, findings=[])
    beside = {
        "texts": len(rows),
        "certified_accuracy": {},
        "compared": 2,
        "contradictions": [],
        "allowed": 0,
        "held": True,
        **certificates,
    }
    facts = {
        **report.summary(),
        "settings": {"survivors_only": True},
        "labels": ["bad", "good"],
        "certificates": beside if method.report is not None else None,
    }
    return dataclasses.replace(method, attacked=report, attacks=facts)


def loaded(recipe: Recipe, output: Path) -> Comparison:
    """Return what the runs of a comparison hold."""
    sizes = Sizes.load(output, None, {"score": SCORED, "certify": CERTIFIED})
    split = load_split(recipe.data, "test")
    return Comparison.load(recipe, method_runs(recipe, output), split, sizes, {})
