"""A study that takes seconds: reviews of three domains in made-up words, and a tiny classifier."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from conftest import BAD, GOOD, NEUTRAL, tiny_bert

from robust_nlp.recipe import Recipe, recipe_from_dict
from robust_nlp.study.results import StudyResults
from robust_nlp.units import keyed_rng

DOMAINS = ["air", "books", "dvd"]
SIZES = {"train": 48, "validation": 12, "test": 24}


def reviews(split: str) -> list[dict[str, Any]]:
    """Texts of neutral words in which a few words tell the class; no text stands in two splits."""
    rng, rows = keyed_rng(0, "study", split), []
    for i in range(SIZES[split]):
        for domain in DOMAINS:
            words = rng.choice(NEUTRAL, int(rng.integers(4, 9))).tolist()
            words[:3] = rng.choice(GOOD if i % 2 else BAD, 3).tolist()
            text = " ".join([*rng.permutation(words), f"{split[:2]}{i}"])
            rows.append({"text": text, "label": i % 2, "domain": domain})
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tiny_values(folder: Path, *, max_steps: int) -> dict[str, Any]:
    """Write data and model to a folder, and return the entries of a recipe for them."""
    files = {split: write_rows(folder / f"{split}.jsonl", reviews(split)) for split in SIZES}
    base = tiny_bert(folder / "base", seed=1, initializer_range=0.7)
    args = {
        "max_steps": max_steps,
        "per_device_train_batch_size": 16,
        "learning_rate": 0.003,
        "disable_tqdm": True,
        "eval_strategy": "no",
        "save_strategy": "no",
    }
    return {
        "model": {"base": str(base), "device": "cpu"},
        "data": {"files": {k: str(v) for k, v in files.items()}, "domain": "domain"},
        "mechanism": {"kind": "randomized_deletion", "p_del": 0.7},
        "train": {"args": args},
    }


def study_recipe(folder: Path, **study: Any) -> Recipe:
    """Write data and model to a folder, and return a study of them."""
    values = tiny_values(folder, max_steps=16)
    values["train"]["noise"] = False
    return recipe_from_dict(
        {
            **values,
            "name": "tiny-study",
            "certify": {"plan": {"kind": "fixed", "n_selection": 5, "n_estimation": 20}},
            "study": {
                "variants": {
                    "plain": {"train.domains.objective": "reweighted_erm"},
                    "fishr": {
                        "train.domains": {"objective": "fishr", "ramp_start": 0.0, "ramp_end": 0.0}
                    },
                },
                "control": "plain",
                "seeds": [0, 1],
                **study,
            },
        }
    )


def with_study(recipe: Recipe, **changes: Any) -> Recipe:
    assert recipe.study is not None
    return dataclasses.replace(recipe, study=dataclasses.replace(recipe.study, **changes))


def made_up(
    recipe: Recipe, right: dict[tuple[str, str, int], list[float]], **numbers: Any
) -> StudyResults:
    """Results whose texts are right or not as given, by variant, domain and seed."""
    training = {"seconds": 2.0, "steps": 10, "resumed_at": 0, "passes": 10, "texts_read": 9}
    return StudyResults(
        recipe=recipe,
        domains=sorted({domain for _, domain, _ in right}),
        numbers={
            key: {
                "measures": {"accuracy": sum(values) / len(values)},
                "training": training,
                "host": {"cpu": "one", "cores": 2, "device": "cpu"},
                "texts": {"held_out": len(values), "seen": {}},
                "repeats": {"held_out": 0, "seen": 0},
                **numbers,
            }
            for key, values in right.items()
        },
        values={
            key: {row: {"accuracy": value} for row, value in enumerate(values)}
            for key, values in right.items()
        },
        planned=len(right),
    )
