"""A study with an attack of TextAttack. Skipped where it is not installed; needs no data."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
from pyarrow import parquet
from study_reviews import study_recipe
from test_augmentation_textattack import _data  # noqa: F401

from robust_nlp.study.drive import run_study

pytestmark = pytest.mark.skipif(
    find_spec("textattack") is None, reason="TextAttack is not installed"
)


def test_texts_of_the_held_out_domain_are_attacked(tmp_path):
    recipe = study_recipe(
        tmp_path,
        hold_out=["air"],
        seeds=[0],
        deleted=None,
        attack={"recipe": "deepwordbug", "limit": 4},
    )
    said = run_study(recipe, tmp_path / "out")
    assert "attacked" in said
    for variant in ("plain", "fishr"):
        path = tmp_path / "out" / variant / "air" / "seed-0"
        answers = parquet.read_table(path / "answers.parquet").to_pylist()
        attacked = [row for row in answers if row["attack"] is not None]
        assert attacked == answers[:4]
        for row in attacked:
            assert (row["attack"] == "skipped") is (row["answer"] != row["label"])
            assert row["queries"] > 0
        robust = sum(row["attack"] == "failed" for row in attacked)
        measures = json.loads((path / "measured.json").read_text())["measures"]
        assert measures["attacked_accuracy"] == robust / 4
