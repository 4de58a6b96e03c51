"""A study on two processes: they share trainings and texts, and make one report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import launch_two
from pyarrow import parquet
from study_reviews import study_recipe, with_study

from robust_nlp.recipe import recipe_to_yaml
from robust_nlp.study.drive import run_study

SCRIPT = Path(__file__).parents[1] / "scripts" / "domains.py"

pytestmark = pytest.mark.slow  # starts Python processes that import torch


def test_two_processes_train_together_and_answer_as_one(tmp_path):
    recipe = study_recipe(tmp_path, hold_out=["air"], seeds=[0], draws=2, certify=3, limit=5)
    recipe = with_study(recipe, keep_models=True)
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    done = launch_two(SCRIPT, file, "--output", tmp_path / "out")
    assert done.stdout.count("Accuracy in each held-out domain") == 1
    run = tmp_path / "out" / "fishr" / "air" / "seed-0"
    shared = parquet.read_table(run / "answers.parquet").to_pylist()
    assert json.loads((run / "measured.json").read_text())["training"]["processes"] == 2
    for path in tmp_path.glob("out/*/*/*/measured.json"):
        path.unlink()
    for path in tmp_path.glob("out/*/*/*/certified"):
        path.rename(path.with_name("before"))
    run_study(recipe, tmp_path / "out")
    assert parquet.read_table(run / "answers.parquet").to_pylist() == shared
