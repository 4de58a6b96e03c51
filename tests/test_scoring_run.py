"""Scoring of a split: the same rows whatever happens on the way, and tables without a model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from conftest import launch_two
from typer.testing import CliRunner

from robust_nlp import pipeline
from robust_nlp.cli import app
from robust_nlp.errors import (
    DataError,
    RecipeError,
    RobustNLPWarning,
    RunMismatchError,
)
from robust_nlp.recipe import recipe_to_yaml
from robust_nlp.report import RobustnessReport, write_report
from robust_nlp.reporting.schema import ReportFile
from robust_nlp.results import RunDirectory
from robust_nlp.scoring import DeleteWords, ScoreRecipe, Typos, score
from robust_nlp.scoring import rows as rows_module
from robust_nlp.scoring.run import load_scores, score_recipe, write_scores
from robust_nlp.scoring.store import ScoreStore

SCRIPT = Path(__file__).parents[1] / "scripts" / "score.py"
SETTINGS = ScoreRecipe(
    limit=None,
    part_size=8,
    perturbations=(
        DeleteWords(rates=(0.3, 0.6), draws=2),
        DeleteWords(order="most_important", importance="gradient_x_embedding", rates=(0.3, 0.6)),
        Typos(rates=(0.5,), draws=1),
    ),
)


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    return dataclasses.replace(tiny_recipe, score=SETTINGS)


@pytest.fixture(scope="module")
def scored(recipe, tmp_path_factory):
    return score_recipe(recipe, tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def copy(scored, tmp_path):
    shutil.copytree(scored.path, tmp_path / "copy")
    return RunDirectory(tmp_path / "copy")


def test_rows_are_those_of_the_classifiers(recipe, tiny_texts, scored):
    smoothed = pipeline.load_classifier(recipe, scored, device="cpu")
    expected = score(
        {"smoothed": smoothed, "plain": smoothed.base},
        tiny_texts,
        [i % 2 for i in range(len(tiny_texts))],
        SETTINGS.perturbations,
        seed=recipe.seed,
        plan=SETTINGS.plan,
    )
    found = load_scores(scored.path)
    assert found is not None
    assert found.labels == ("negative", "positive")
    assert dataclasses.replace(found, labels=()).to_dict() == expected.to_dict()
    rows = ScoreStore(scored.path).rows()
    assert len(rows) == len(tiny_texts) * 2 * (1 + 2 * 2 + 2 + 1)
    assert all(row["right"] == (row["predicted"] == row["label"]) for row in rows)


def test_an_interrupted_run_goes_on_to_the_same_rows(recipe, scored, tmp_path, monkeypatch):
    ask, calls = rows_module.score_rows, []

    def interrupted(classifiers, texts, *args, **kwargs):
        calls.append(len(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return ask(classifiers, texts, *args, **kwargs)

    monkeypatch.setattr(rows_module, "score_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score_recipe(recipe, tmp_path / "again", limit=20)
    run, store = RunDirectory(tmp_path / "again"), ScoreStore(tmp_path / "again")
    assert store.parts_done() == {(0, 8)}
    assert run.manifest()["stages"]["score"]["complete"] is False
    score_recipe(recipe, tmp_path / "again", limit=20)
    assert calls == [8, 8, 8, 4]
    score_recipe(recipe, tmp_path / "again")
    assert calls == [8, 8, 8, 4, 4]
    assert store.rows() == ScoreStore(scored.path).rows()
    assert run.manifest()["stages"]["score"]["complete"] is True


def test_other_settings_data_or_seeds_are_refused_until_fresh(recipe, copy):
    other = dataclasses.replace(recipe, seed=recipe.seed + 1)
    with pytest.raises(RunMismatchError, match="seed: 0 in the run, 1 now"):
        score_recipe(other, copy.path)
    fewer = dataclasses.replace(SETTINGS, perturbations=(Typos(rates=(0.5,), draws=1),))
    other = dataclasses.replace(recipe, score=fewer)
    with pytest.raises(RunMismatchError, match="perturbations"):
        score_recipe(other, copy.path)
    score_recipe(other, copy.path, limit=3, fresh=True)
    found = load_scores(copy.path)
    assert found is not None
    assert list(found.to_dict()["perturbations"]) == ["typos"]
    assert found.to_dict()["texts"] == 3


def test_tables_are_made_without_the_model(copy, monkeypatch):
    monkeypatch.setattr(pipeline, "load_classifier", None)
    said = write_scores(copy.path)
    assert "delete_words[most_important by gradient_x_embedding]" in said
    facts = json.loads((copy.path / "score.json").read_text(encoding="utf-8"))
    found = load_scores(copy.path)
    assert found is not None
    assert facts["scores"] == found.to_dict()["scores"]
    assert facts["made_with"]["plan"]["kind"] == "sequential"
    lines = (copy.path / "score.md").read_text(encoding="utf-8")
    for title in (
        "Scores by rate",
        "Whole curves",
        "Classifiers compared",
        "By length",
        "By class",
    ):
        assert f"## {title}" in lines


def test_runs_without_scores_say_so(tmp_path, recipe):
    assert load_scores(tmp_path) is None
    with pytest.raises(DataError, match="robust-nlp score"):
        write_scores(tmp_path)
    without = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, label=None))
    with pytest.raises(RecipeError, match=r"data\.label"):
        score_recipe(without, tmp_path)


def test_scores_and_certificates_share_a_run_and_its_report(recipe, copy):
    pipeline.certify(recipe, copy.path, limit=6)
    write_report(copy.path)
    page = (copy.path / "report.html").read_text(encoding="utf-8")
    assert "Accuracy of the smoothed classifier as words are deleted" in page
    assert "most important by gradient x embedding" in page
    facts = json.loads((copy.path / "report.json").read_text(encoding="utf-8"))
    ReportFile.model_validate(facts)
    found = load_scores(copy.path)
    assert found is not None
    assert facts["scores"]["scores"] == found.to_dict()["scores"]
    # A changed section on scores leaves certificates valid.
    other = dataclasses.replace(recipe, score=None)
    pipeline.certify(other, copy.path, limit=6)


def test_scores_of_another_classifier_are_left_out_of_a_report(recipe, copy):
    pipeline.certify(recipe, copy.path, limit=2)
    assert RobustnessReport.load(copy.path).scores is not None
    path = copy.path / "scores" / "made_with.json"
    made_with = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**made_with, "classifier": "another"}), encoding="utf-8")
    with pytest.warns(RobustNLPWarning, match="another classifier than the certificates"):
        assert RobustnessReport.load(copy.path).scores is None


def test_a_report_without_scores_has_no_such_section(recipe, tmp_path):
    pipeline.certify(recipe, tmp_path, limit=2)
    report = RobustnessReport.load(tmp_path)
    assert report.to_dict()["scores"] is None
    report.save_html(tmp_path / "page.html")
    assert "under perturbations" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_command_scores_and_says_where_the_tables_are(recipe, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    arguments = ["score", str(path), "-o", str(tmp_path / "run"), "--limit", "4"]
    done = CliRunner().invoke(app, [*arguments, "--set", "score.classifiers=[plain]"])
    assert done.exit_code == 0, done.output
    assert "Robustness scores on 4 texts" in done.output
    assert "score.md" in done.output
    found = load_scores(tmp_path / "run")
    assert found is not None
    assert [each.classifier for each in found.measured] == ["plain"]


@pytest.mark.slow
def test_two_processes_share_the_parts_and_give_the_rows_of_one(recipe, scored, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    launch_two(SCRIPT, path, "--output", tmp_path / "two")
    two = RunDirectory(tmp_path / "two")
    assert two.manifest()["stages"]["score"]["processes"] == 2
    assert ScoreStore(two.path).rows() == ScoreStore(scored.path).rows()
