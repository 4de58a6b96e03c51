"""Attacks from recipes: rows that survive interruptions, tables without a model, certificates."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
from attack_victims import attack_data  # noqa: F401
from conftest import launch_two
from pyarrow import parquet
from typer.testing import CliRunner

from robust_nlp import pipeline
from robust_nlp.attacks import AttackRecipe
from robust_nlp.attacks import drive as drive_module
from robust_nlp.attacks.certified import beside_certificates
from robust_nlp.attacks.drive import attack_recipe
from robust_nlp.attacks.rows import AttackRow
from robust_nlp.attacks.stage import Stage
from robust_nlp.attacks.wording import attack_facts, sentences, write_attacks
from robust_nlp.base_classifier import CallableClassifier
from robust_nlp.cli import app
from robust_nlp.errors import DataError, RecipeError, RobustNLPWarning, RunMismatchError
from robust_nlp.recipe import recipe_to_yaml
from robust_nlp.report import RobustnessReport, write_report
from robust_nlp.reporting.schema import ReportFile
from robust_nlp.reporting.texts import certify_rows
from robust_nlp.results import RunDirectory
from robust_nlp.smoothing import SmoothedClassifier

SCRIPT = Path(__file__).parents[1] / "scripts" / "attack.py"
SETTINGS = AttackRecipe(
    attacks=("deepwordbug",),
    limit=8,
    check_examples=1,
    search_votes=4,
    judge_votes=40,
    alpha=0.2,
    max_forwards=400,
    max_seconds=None,
)
needs_textattack = pytest.mark.skipif(
    find_spec("textattack") is None, reason="TextAttack is not installed"
)


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    return dataclasses.replace(tiny_recipe, attack=SETTINGS)


def quietly(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RobustNLPWarning)
        return attack_recipe(*args, **options)


@pytest.fixture(scope="module")
def attacked(recipe, attack_data, tmp_path_factory):  # noqa: F811
    run = tmp_path_factory.mktemp("runs") / "attacked"
    pipeline.certify(recipe, run, limit=6)
    return quietly(recipe, run)


def rows_of(run, name):
    rows = parquet.read_table(run.path / "attacks" / name / "rows.parquet").to_pylist()
    return [{**row, "seconds": 0.0} for row in rows]


@needs_textattack
def test_both_classifiers_are_attacked_and_rows_kept(attacked):
    facts = attack_facts(attacked.path)
    assert facts is not None
    assert list(facts["classifiers"]) == ["smoothed", "plain"]
    for name, found in facts["classifiers"].items():
        rows = rows_of(attacked, name)
        assert [row["example_id"] for row in rows] == list(range(8))
        outcomes = [row["outcome"] for row in rows]
        worst = found["worst_case"]
        assert worst["clean_accuracy"]["value"] == 1 - outcomes.count("skipped") / 8
        lost = outcomes.count("success") + outcomes.count("uncertain")
        assert worst["robustness_score"]["value"] == pytest.approx(lost / 8)
        assert found["settings"]["attacks"] == ["deepwordbug"]
    assert attacked.manifest()["stages"]["attack"]["complete"] is True


@needs_textattack
def test_an_interrupted_run_goes_on_to_the_same_rows(recipe, attacked, tmp_path, monkeypatch):
    write, seen = Stage._row, []

    def interrupted(self, example, tally, ended):
        seen.append(example.id)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return write(self, example, tally, ended)

    monkeypatch.setattr(Stage, "_row", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quietly(recipe, tmp_path)
    assert attack_facts(tmp_path) is None
    quietly(recipe, tmp_path)
    again = RunDirectory(tmp_path)
    for name in ("smoothed", "plain"):
        assert rows_of(again, name) == rows_of(attacked, name)
    made = len(seen)
    quietly(recipe, tmp_path)
    assert len(seen) == made
    quietly(recipe, tmp_path, limit=2, fresh=True)
    assert len(seen) > made
    assert len(rows_of(again, "plain")) == 2


@needs_textattack
def test_another_classifier_is_not_mistaken_for_this_one(recipe, attacked, tmp_path):
    shutil.copytree(attacked.path, tmp_path / "copy")
    other = dataclasses.replace(recipe.mechanism, p_del=0.5)
    with pytest.raises(RunMismatchError, match="mechanism"):
        quietly(dataclasses.replace(recipe, mechanism=other), tmp_path / "copy")
    # Without certificates, another rate makes other rows.
    shutil.rmtree(tmp_path / "copy" / "certificates")
    run = quietly(dataclasses.replace(recipe, mechanism=other), tmp_path / "copy")
    assert rows_of(run, "smoothed") != rows_of(attacked, "smoothed")
    assert rows_of(run, "plain") == rows_of(attacked, "plain")
    facts = attack_facts(run.path)
    assert facts is not None
    assert facts["classifiers"]["smoothed"]["certificates"] is None


@needs_textattack
def test_tables_and_report_need_no_model(attacked, tmp_path, monkeypatch):
    shutil.copytree(attacked.path, tmp_path / "copy")
    monkeypatch.setattr(pipeline, "load_classifier", None)
    said = write_attacks(tmp_path / "copy")
    assert "Worst case over all attacks" in said
    assert "deepwordbug" in said
    lines = (tmp_path / "copy" / "attacks.md").read_text(encoding="utf-8")
    assert "## What was certified of the attacked texts" in lines
    facts = json.loads((tmp_path / "copy" / "attacks.json").read_text(encoding="utf-8"))
    beside = facts["classifiers"]["smoothed"]["certificates"]
    assert beside["texts"] == 6
    assert beside["held"]
    for each in sentences(facts):
        assert each in lines
    write_report(tmp_path / "copy")
    found = json.loads((tmp_path / "copy" / "report.json").read_text(encoding="utf-8"))
    assert ReportFile.model_validate(found).attacks is not None
    page = (tmp_path / "copy" / "report.html").read_text(encoding="utf-8")
    assert "Accuracy under attack" in page
    assert "Worst case over all attacks" in page
    context = tmp_path / "copy" / "attacks" / "smoothed" / "context.json"
    other = {**json.loads(context.read_text(encoding="utf-8")), "classifier": "another"}
    context.write_text(json.dumps(other), encoding="utf-8")
    report = RobustnessReport.load(tmp_path / "copy")
    assert report.attacks is not None
    assert list(report.attacks["classifiers"]) == ["plain"]


def certified(run, recipe, radius):
    """The certificates of a run, with a radius of one's own in place of the true one."""
    texts = certify_rows(run.rows(), recipe.mechanism, alpha=0.01, attackers=["substitute"])
    return [
        dataclasses.replace(
            each,
            certificates={
                "substitute": dataclasses.replace(
                    each.first, predicted=1, top=1, radius=radius, method="exact", alpha=0.0
                )
            },
        )
        for each in texts
    ]


@pytest.fixture(scope="module")
def run(tiny_recipe, tmp_path_factory):
    return pipeline.certify(tiny_recipe, tmp_path_factory.mktemp("runs") / "run", limit=4)


@pytest.mark.parametrize(
    ("radius", "changed", "predicted", "held"),
    [
        (2, 2, 0, False),
        (1, 2, 0, True),
        (2, 3, 0, True),
        (2, 2, 1, True),
    ],
)
def test_finds_inside_a_certified_radius_contradict_it(
    tiny_recipe, run, radius, changed, predicted, held
):
    smoothed = pipeline.load_classifier(tiny_recipe, run, device="cpu")
    texts = certified(run, tiny_recipe, radius)
    words = texts[0].text.split()
    assert len(words) >= 3
    found = " ".join(["changed"] * changed + words[changed:])
    row = AttackRow(
        attack="made up",
        example_id=0,
        label=1,
        outcome="success",
        text=texts[0].text,
        found=found,
        clean_predicted=1,
        found_predicted=predicted,
    )
    beside = beside_certificates(smoothed, {"made up": [row]}, texts, alpha=1e-3)
    assert beside is not None
    assert beside["held"] is held
    assert (beside["texts"], beside["compared"]) == (1, 1)
    assert beside["certified_accuracy"] == {"substitute": {str(r): 1.0 for r in range(radius + 1)}}
    if held:
        assert beside["contradictions"] == []
    else:
        (each,) = beside["contradictions"]
        assert (each["distance"], each["radius"], each["found"]) == (changed, radius, found)
    facts = {"classifiers": {"smoothed": {"certificates": beside, "findings": []}}}
    assert ("a certificate is wrong" in sentences(facts)[0]) is not held


def test_finds_in_pairs_are_quoted_beside_the_text_that_was_open(tiny_recipe, run):
    labels = ["no", "yes"]
    base = CallableClassifier(lambda ps: [[0.0, 1.0]] * len(ps), labels, protected="first")
    smoothed = SmoothedClassifier(base, tiny_recipe.mechanism)
    row = AttackRow(
        attack="made up",
        example_id=0,
        label=1,
        outcome="success",
        text="kept as it is",
        pair="one two three",
        found="changed two three",
        clean_predicted=1,
        found_predicted=0,
    )
    beside = beside_certificates(
        smoothed, {"made up": [row]}, certified(run, tiny_recipe, 2), alpha=1e-3
    )
    assert beside is not None
    (each,) = beside["contradictions"]
    assert (each["text"], each["found"]) == ("one two three", "changed two three")
    assert each["distance"] == 1


def test_certificates_from_votes_may_fail_as_often_as_alpha_says(tiny_recipe, run):
    smoothed = pipeline.load_classifier(tiny_recipe, run, device="cpu")
    texts = [
        dataclasses.replace(
            each,
            certificates={
                name: dataclasses.replace(c, alpha=0.9, method="sequential")
                for name, c in each.certificates.items()
            },
        )
        for each in certified(run, tiny_recipe, 2)
    ]
    row = AttackRow(
        attack="made up",
        example_id=0,
        label=1,
        outcome="success",
        text=texts[0].text,
        found="changed " + texts[0].text.split(maxsplit=1)[1],
        clean_predicted=1,
        found_predicted=0,
    )
    beside = beside_certificates(smoothed, {"made up": [row]}, texts, alpha=1e-3)
    assert beside is not None
    assert len(beside["contradictions"]) == 1
    assert beside["allowed"] == 1
    assert beside["held"]
    assert beside_certificates(smoothed, {"made up": [row]}, texts[1:], alpha=1e-3) is None


def test_what_cannot_be_attacked_is_refused(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(drive_module, "textattack_version", lambda: "0")
    without = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, label=None))
    with pytest.raises(RecipeError, match=r"data\.label"):
        attack_recipe(without, tmp_path)
    with pytest.raises(DataError, match="robust-nlp attack"):
        write_attacks(tmp_path)
    assert attack_facts(tmp_path) is None


@needs_textattack
def test_the_command_attacks_and_says_where_the_tables_are(recipe, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    arguments = ["attack", str(path), "-o", str(tmp_path / "run"), "--limit", "3"]
    done = CliRunner().invoke(app, [*arguments, "--set", "attack.classifiers=[plain]"])
    assert done.exit_code == 0, done.output
    assert "Attack by attack" in done.output
    assert "attacks.md" in done.output
    assert not (tmp_path / "run" / "attacks" / "smoothed").exists()


@needs_textattack
def test_two_processes_share_the_texts_and_give_the_rows_of_one(recipe, attacked, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    launch_two(SCRIPT, path, "--output", tmp_path / "two")
    for name in ("smoothed", "plain"):
        assert rows_of(RunDirectory(tmp_path / "two"), name) == rows_of(attacked, name)
