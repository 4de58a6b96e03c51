"""Model cards: numbers as in the report, read back by the library that the Hub uses."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from test_report import ALL, ALPHA, DELETE, INSERT, hand_made, make_run, own_radius, row
from typer.testing import CliRunner

from robust_nlp import CallableClassifier
from robust_nlp.attacks.report import accuracies, efforts
from robust_nlp.attacks.rows import AttackRow
from robust_nlp.card import BEGIN, END, _with_section, model_card, write_card
from robust_nlp.cli import app
from robust_nlp.errors import DataError
from robust_nlp.report import RobustnessReport
from robust_nlp.scoring import DeleteWords, RobustnessScores, score

VOTED = [(each["looks"][0][1], each["n_units"], each["label"]) for each in hand_made()]


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path, hand_made())


def results(card: str) -> dict[str, EvalResult]:
    """The results of a card, by name, through huggingface_hub's own parser."""
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    return {each.metric_name: each for each in data.eval_results or ()}


def own_share(attacker: str, radius: int) -> float:
    """Certified accuracy from the formula, text by text."""
    hits = 0
    for ones, n_units, label in VOTED:
        found = own_radius(ones, alpha=ALPHA, attacker=attacker, n_units=n_units)
        right = label == int(ones > 200)
        hits += right and found is not None and found >= radius
    return hits / len(VOTED)


def test_the_card_has_the_certified_accuracy_of_each_attacker_and_radius(run):
    found = results(model_card(run, radii=(0, 1, 3)))
    for attacker in (ALL, INSERT, DELETE):
        for radius in (0, 1, 3):
            result = found[f"Certified accuracy at radius {radius} ({attacker})"]
            assert result.metric_value == pytest.approx(own_share(attacker, radius))
            assert result.metric_type == "certified_accuracy"
            arguments = result.metric_args
            assert (arguments["radius"], arguments["attacker"]) == (radius, attacker)
            assert (arguments["alpha"], arguments["texts"]) == (ALPHA, len(VOTED))
            assert arguments["unit"] == "word"
            low, high = arguments["interval_95"]
            assert low <= result.metric_value <= high
    assert found["Smoothed accuracy"].metric_value == pytest.approx(own_share(ALL, 0))
    assert found["Smoothed accuracy"].task_type == "text-classification"
    assert found["Smoothed accuracy"].dataset_type == "a-data-set"
    assert found["Smoothed accuracy"].dataset_split == "test"
    assert len(found) == 10


def test_another_alpha_gives_other_numbers(run):
    strict = results(model_card(run, alpha=1e-9, radii=(3,)))
    name = f"Certified accuracy at radius 3 ({DELETE})"
    assert strict[name].metric_args["alpha"] == 1e-9
    assert strict[name].metric_value < own_share(DELETE, 3)


def test_the_table_shows_the_same_numbers(run):
    lines = model_card(run, radii=(0, 3)).splitlines()
    head = lines.index("| attacker | radius 0 | radius 3 |")
    shares = [f"{100 * own_share(ALL, radius):.1f}" for radius in (0, 3)]
    assert lines[head + 2] == f"| insertions, deletions, substitutions | {' | '.join(shares)} |"


def test_the_card_says_threat_and_limits_and_quotes_no_text(run):
    card = model_card(run)
    assert "One edit inserts, deletes or substitutes one word." in card
    assert "Randomized deletion: every word is deleted with probability 0.9" in card
    assert "- edits of a fixed prefix, or of the protected text of a pair" in card
    assert "not about one pass of the checkpoint" in card
    assert "words" not in card.split(BEGIN)[0]
    assert not any(each["text"] in card for each in hand_made())


def test_without_labels_there_are_words_and_no_results(tmp_path):
    run = make_run(tmp_path, [row(0, 400, 30, None)])
    card = model_card(run)
    assert results(card) == {}
    assert "model-index" not in card
    assert "has a certified answer that provably stays the same" in card


def test_paths_of_this_machine_stay_here(run):
    recipe = (run / "recipe.yaml").read_text()
    files = "files:\n    test: /home/me/secret/reviews.csv"
    (run / "recipe.yaml").write_text(
        recipe.replace("path: a-data-set", "path: null").replace("files: null", files)
    )
    card = model_card(run)
    assert "/home/me" not in card
    (result,) = {each.dataset_name for each in results(card).values()}
    assert result == "local file reviews.csv"


# Scores and attacks.


def measured_scores() -> dict:
    return RobustnessScores(measured=read_scores()).to_dict()


def read_scores():
    def classify(texts):
        return [[0.5, float("good" in text)] for text in texts]

    plain = CallableClassifier(classify, ["bad", "good"])
    texts = ["a good film", "it was bad", "good good plot"]
    found = score({"smoothed": plain, "plain": plain}, texts, [1, 0, 1], [DeleteWords(draws=2)])
    return found.measured


def attack_facts() -> dict:
    def row_of(i, outcome):
        return AttackRow(attack="textfooler", example_id=i, label=1, outcome=outcome, text="t")

    outcomes = ["success", "failed", "failed", "skipped", "success"]
    rows = [row_of(i, outcome) for i, outcome in enumerate(outcomes)]
    found = {
        "worst_case": accuracies(rows),
        "attacks": {"textfooler": efforts(rows)},
        "findings": [],
    }
    return {"methods": "", "classifiers": {"smoothed": found, "plain": found}}


@pytest.fixture
def measured(run, monkeypatch):
    report = dataclasses.replace(
        RobustnessReport.load(run), scores=measured_scores(), attacks=attack_facts()
    )
    monkeypatch.setattr(RobustnessReport, "load", lambda *_: report)
    return run


def test_robust_accuracy_and_success_of_attacks_are_in_the_card(measured):
    card = model_card(measured)
    robust = results(card)["Robust accuracy under attack"]
    assert (robust.metric_type, robust.metric_value) == ("robust_accuracy", 2 / 5)
    assert robust.metric_args["attacks"] == ["textfooler"]
    assert robust.metric_args["texts"] == 5
    assert results(card)["Attack success rate"].metric_value == 2 / 4
    assert "| robust accuracy | 40.0 % |" in card
    assert "on 5 texts, each attacked by textfooler" in card


def test_robustness_scores_of_the_smoothed_classifier_are_in_the_card(measured):
    facts = measured_scores()
    card = model_card(measured)
    found = [each for each in results(card).values() if each.metric_type == "robustness_score"]
    (curve,) = [each for each in facts["scores"] if each["classifier"] == "smoothed"]
    (result,) = found
    last = curve["points"][-1]
    assert result.metric_value == pytest.approx(last["score"]["value"], abs=1e-4)
    assert result.metric_value > 0.0
    assert result.metric_args["rate"] == last["rate"] == curve["largest_rate"]
    assert np.isclose(result.metric_args["interval_95"][0], last["score"]["low"], atol=1e-4)
    assert f"| `{curve['perturbation']}` | {last['rate']:g} |" in card


@pytest.fixture
def uncertified(tmp_path, monkeypatch):
    plain = RobustnessScores(measured=read_scores(), labels=("bad", "good"))
    monkeypatch.setattr("robust_nlp.card.uncertified.load_scores", lambda _: plain)
    monkeypatch.setattr("robust_nlp.card.uncertified.attack_facts", lambda _: attack_facts())
    return make_run(tmp_path, [])


def test_a_plain_classifier_has_a_card_of_what_was_measured(uncertified):
    card = model_card(uncertified)
    found = results(card)
    assert found["Robust accuracy under attack"].metric_value == 2 / 5
    clean = measured_scores()["clean"]["plain"]["accuracy"]["value"]
    assert found["Accuracy"].metric_value == pytest.approx(clean, abs=1e-4)
    assert [each.metric_type for each in found.values()] == [
        "accuracy",
        "robustness_score",
        "robust_accuracy",
        "attack_success_rate",
    ]
    assert "Nothing is certified" in card
    assert "The classifier on 5 texts, each attacked by textfooler" in card
    assert "ertified accuracy" not in card
    assert "smoothed" not in card.partition("### Limits")[0].partition(BEGIN)[2]


def test_a_run_of_which_nothing_was_measured_has_no_card(tmp_path):
    with pytest.raises(DataError, match="neither certificates, nor scores, nor attacks"):
        model_card(make_run(tmp_path, []))


def test_a_folder_of_runs_is_told_from_a_run(tmp_path):
    folder = make_run(tmp_path, []).parent
    with pytest.raises(DataError, match="one of its folders: "):
        model_card(folder)


# Cards that are there already.

EXISTING = """\
---
license: mit
tags:
- mine
model-index:
- name: my-model
  results:
  - task:
      type: text-classification
    dataset:
      name: another
      type: another
    metrics:
    - type: accuracy
      value: 0.9
      name: Accuracy
---

# Mine

What I wrote \\1.
"""


def test_what_is_written_by_hand_stays(run):
    card = model_card(run, radii=(0,), existing=EXISTING)
    data = ModelCard(card).data
    assert (data.license, data.model_name) == ("mit", "my-model")
    assert data.tags[0] == "mine"
    assert "certified-robustness" in data.tags
    assert results(card)["Accuracy"].metric_value == 0.9
    assert f"Certified accuracy at radius 0 ({ALL})" in results(card)
    assert "What I wrote \\1." in card


def test_writing_again_changes_only_what_is_ours(run):
    path = run / "README.md"
    path.write_text(EXISTING)
    assert write_card(run, radii=(0, 1, 2)) == path
    first = path.read_text()
    path.write_text(first + "\nBelow.\n")
    write_card(run, radii=(0, 1, 2))
    assert path.read_text() == first + "\nBelow.\n"
    write_card(run, radii=(0,))
    card = path.read_text()
    assert card.count(BEGIN) == card.count(END) == 1
    assert "Below." in card
    assert f"Certified accuracy at radius 1 ({ALL})" not in results(card)
    assert "Accuracy" in results(card)


def test_names_with_backslashes_are_written_as_they_are():
    assert _with_section(f"a {BEGIN} old {END} b", r"class \1 \g<0>") == r"a class \1 \g<0> b"


def test_the_card_stands_beside_the_model(run):
    (run / "model").mkdir()
    assert write_card(run) == run / "model" / "README.md"


def test_metadata_that_cannot_be_read_are_an_error(run):
    for broken in ("---\na: [\n---\n", "---\nmodel-index:\n- nothing: 1\n---\n"):
        with pytest.raises(DataError, match="metadata of the existing card cannot be read"):
            model_card(run, existing=broken)


def test_the_command_shows_or_writes_the_card(run):
    shown = CliRunner().invoke(app, ["card", str(run), "--radii", "0,3"])
    assert shown.exit_code == 0
    assert f"Certified accuracy at radius 3 ({ALL})" in results(shown.output)
    assert not (run / "README.md").exists()
    written = CliRunner().invoke(app, ["card", str(run), "--radii", "0,3", "--write"])
    assert written.exit_code == 0
    assert (run / "README.md").read_text() == shown.output.removesuffix("\n")
    assert CliRunner().invoke(app, ["card", str(run / "nowhere")]).exit_code == 2


def test_values_are_plain_numbers(run):
    text = json.dumps(ModelCard(model_card(run)).data.to_dict()["model-index"])
    assert "numpy" not in text
