"""A comparison that takes seconds: made-up reviews of three domains, and a tiny classifier."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from conftest import tiny_bert
from study_reviews import SIZES, reviews, write_rows

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
    files = {split: write_rows(folder / f"{split}.jsonl", reviews(split)) for split in SIZES}
    base = tiny_bert(folder / "base", seed=1, initializer_range=0.7)
    args = {
        "max_steps": 3,
        "per_device_train_batch_size": 16,
        "learning_rate": 0.003,
        "disable_tqdm": True,
        "eval_strategy": "no",
        "save_strategy": "no",
    }
    return recipe_from_dict(
        {
            "name": "tiny-compare",
            "model": {"base": str(base), "device": "cpu"},
            "data": {"files": {k: str(v) for k, v in files.items()}, "domain": "domain"},
            "mechanism": {"kind": "randomized_deletion", "p_del": 0.7},
            "train": {"args": args},
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
