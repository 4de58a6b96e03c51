"""Certification of a whole split: the same rows whatever happens on the way."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_nlp.certification import certificate_from_votes
from robust_nlp.errors import DataError, ModelError, RobustNLPWarning, RunMismatchError
from robust_nlp.mechanisms import RandomizedDeletion
from robust_nlp.pipeline import certify, parts_left, train
from robust_nlp.recipe import Recipe
from robust_nlp.reporting.texts import votes_of_row
from robust_nlp.results import RunDirectory
from robust_nlp.smoothing import SmoothedClassifier

# What a row says of its cost depends on the way; everything else must not.
COST = {"seconds", "votes_classified"}


def results_of(run) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in COST} for row in run.rows()]


def changed(recipe: Recipe, part: str, **entries) -> Recipe:
    return dataclasses.replace(
        recipe, **{part: dataclasses.replace(getattr(recipe, part), **entries)}
    )


@pytest.fixture(scope="module")
def certified(tiny_recipe, tmp_path_factory):
    return certify(tiny_recipe, tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def copy(certified, tmp_path):
    """A run of the test's own."""
    shutil.copytree(certified.path, tmp_path / "copy")
    return RunDirectory(tmp_path / "copy")


def test_rows_hold_the_votes_of_the_smoothed_classifier(tiny_recipe, tiny_texts, certified):
    smoothed = SmoothedClassifier.from_pretrained(
        tiny_recipe.model.base, mechanism=tiny_recipe.mechanism, device="cpu"
    )
    records = smoothed.votes(tiny_texts, tiny_recipe.certify.plan, seed=tiny_recipe.seed)
    assert [votes_of_row(row) for row in certified.rows()] == [record.votes for record in records]
    assert [row["text"] for row in certified.rows()] == tiny_texts
    assert [row["label"] for row in certified.rows()] == [i % 2 for i in range(len(tiny_texts))]


def test_rows_hold_the_certificate_against_the_first_attacker(tiny_recipe, certified):
    for row in certified.rows():
        expected = certificate_from_votes(
            votes_of_row(row), tiny_recipe.mechanism, alpha=tiny_recipe.certify.plan.alpha
        )
        for name in ("predicted", "radius", "p_lower", "p_runner_up", "alpha", "method"):
            assert row[name] == getattr(expected, name)


def test_the_manifest_says_what_was_certified(certified, tiny_texts):
    manifest = certified.manifest()
    assert manifest["labels"] == ["negative", "positive"]
    assert manifest["data"]["rows"] == len(tiny_texts)
    assert manifest["data"]["limit"] is None
    assert manifest["stages"]["certify"]["complete"] is True
    assert manifest["stages"]["certify"]["processes"] == 1
    assert manifest["host"]["device"] == "cpu"


def test_an_interrupted_run_goes_on_to_the_same_rows(tiny_recipe, certified, tmp_path, monkeypatch):
    votes, calls = SmoothedClassifier.votes, []

    def interrupted(self, texts, *args, **kwargs):
        calls.append(len(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return votes(self, texts, *args, **kwargs)

    monkeypatch.setattr(SmoothedClassifier, "votes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        certify(tiny_recipe, tmp_path / "again")
    run = RunDirectory(tmp_path / "again")
    assert run.parts_done() == {(0, 8)}
    assert run.manifest()["stages"]["certify"]["complete"] is False
    certify(tiny_recipe, tmp_path / "again")
    assert calls == [8, 8, 8, 8]
    assert results_of(run) == results_of(certified)
    assert run.manifest()["stages"]["certify"]["complete"] is True


def test_a_limit_that_grows_keeps_what_is_done(tiny_recipe, certified, tmp_path):
    run = certify(tiny_recipe, tmp_path / "again", limit=5)
    assert len(run.rows()) == 5
    assert run.manifest()["data"]["limit"] == 5
    certify(tiny_recipe, tmp_path / "again", limit=12)
    certify(tiny_recipe, tmp_path / "again")
    assert run.parts_done() == {(0, 5), (5, 8), (8, 12), (12, 16), (16, 24)}
    assert results_of(run) == results_of(certified)


def test_a_run_that_is_done_casts_no_votes(tiny_recipe, copy, monkeypatch):
    monkeypatch.setattr(SmoothedClassifier, "votes", None)
    certify(tiny_recipe, copy.path)


def test_part_size_and_batches_change_no_result(tiny_recipe, certified, tmp_path):
    other = changed(changed(tiny_recipe, "certify", part_size=5), "model", batch_tokens=64)
    assert results_of(certify(other, tmp_path / "other")) == results_of(certified)


def test_fresh_starts_again(tiny_recipe, certified, copy):
    other = dataclasses.replace(tiny_recipe, seed=1)
    with pytest.raises(RunMismatchError, match="seed: 0 in the run, 1 in the recipe"):
        certify(other, copy.path)
    certify(other, copy.path, fresh=True)
    assert results_of(copy) != results_of(certified)


def test_data_that_changed_are_refused(tiny_recipe, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "an old film", "label": 0}\n', encoding="utf-8")
    recipe = changed(tiny_recipe, "data", files={"test": str(path)})
    certify(recipe, tmp_path / "run")
    path.write_text('{"text": "a new film", "label": 0}\n', encoding="utf-8")
    with pytest.raises(RunMismatchError, match="another content of the data"):
        certify(recipe, tmp_path / "run")


def test_weights_that_changed_are_refused(tiny_recipe, tiny_classifier_dir, tmp_path):
    smoothed = SmoothedClassifier.from_pretrained(
        tiny_classifier_dir, mechanism=tiny_recipe.mechanism, device="cpu"
    )
    recipe = changed(tiny_recipe, "model", base=str(tmp_path / "model"))
    smoothed.save_pretrained(recipe.model.base)
    run = certify(recipe, tmp_path / "run", limit=2)
    smoothed.base.model.classifier.bias.data += 0.5
    smoothed.save_pretrained(recipe.model.base)
    with pytest.raises(RunMismatchError, match="another content of the classifier"):
        certify(recipe, run.path)


def test_fresh_deletes_nothing_before_data_and_classifier_are_there(tiny_recipe, copy):
    gone = changed(tiny_recipe, "data", files={"test": "gone.jsonl"})
    with pytest.raises(DataError, match=r"there is no file gone\.jsonl"):
        certify(gone, copy.path, fresh=True)
    assert len(copy.rows()) == 24


def test_a_label_outside_the_head_is_refused(tiny_recipe, tmp_path):
    path = tmp_path / "three.jsonl"
    path.write_text('{"text": "a", "label": 0}\n{"text": "b", "label": 2}\n', encoding="utf-8")
    recipe = changed(tiny_recipe, "data", files={"test": str(path)})
    with pytest.raises(DataError, match=r"row 1 of column 'label' .*, or 0 to 1; got 2"):
        certify(recipe, tmp_path / "run")


def test_pairs_without_labels_are_certified(tiny_recipe, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"text": "a good film", "other": "it is bad"}\n', encoding="utf-8")
    recipe = changed(tiny_recipe, "data", files={"test": str(path)}, pair="other", label=None)
    (row,) = certify(recipe, tmp_path / "run").rows()
    assert (row["text"], row["pair"], row["label"]) == ("a good film", "it is bad", None)
    assert row["n_units"] == 3


def test_tokens_can_be_the_unit(tiny_recipe, tmp_path):
    recipe = dataclasses.replace(tiny_recipe, mechanism=RandomizedDeletion(p_del=0.7, unit="token"))
    run = certify(recipe, tmp_path / "run", limit=8)
    assert len(run.rows()) == 8


def test_noise_that_can_promise_nothing_is_cautioned(tiny_recipe, tmp_path):
    weak = dataclasses.replace(tiny_recipe, mechanism=RandomizedDeletion(p_del=0.4))
    with pytest.warns(RobustNLPWarning, match="100% of 8 texts cannot have a certified radius"):
        certify(weak, tmp_path / "weak", limit=8)


def test_a_model_without_a_head_is_refused(tiny_recipe, tiny_classifier_dir, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    for auto in (AutoModel, AutoTokenizer):
        auto.from_pretrained(tiny_classifier_dir).save_pretrained(tmp_path / "encoder")
    recipe = changed(tiny_recipe, "model", base=str(tmp_path / "encoder"))
    with pytest.raises(ModelError, match="no trained classification head"):
        certify(recipe, tmp_path / "run")


def test_training_comes_before_certification(tiny_recipe, tmp_path):
    recipe = changed(
        tiny_recipe,
        "train",
        selection_votes=4,
        args={"num_train_epochs": 1, "disable_tqdm": True, "per_device_train_batch_size": 8},
    )
    run = train(recipe, tmp_path / "run")
    written = (run.model / "model.safetensors").stat().st_mtime_ns
    stage = run.manifest()["stages"]["train"]
    assert stage["complete"] is True
    assert json.loads((run.model / "smoothing.json").read_text())["mechanism"]["p_del"] == 0.7
    train(recipe, run.path)
    assert (run.model / "model.safetensors").stat().st_mtime_ns == written
    certify(recipe, run.path, limit=8)
    assert run.manifest()["classifier"]["path"] == str(run.model)
    assert run.manifest()["stages"]["train"] == stage
    with pytest.raises(RunMismatchError, match=r"train\.clean_share: 0\.0 in the run, 0.5"):
        train(changed(recipe, "train", clean_share=0.5), run.path)


ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=5)


@given(n_texts=st.integers(0, 60), part_size=st.integers(1, 20), cuts=ranges)
def test_parts_cover_what_is_left_and_end_at_multiples(n_texts, part_size, cuts):
    done, end = [], 0
    for start, size in sorted(cuts):
        if start >= end:
            done.append((start, end := start + size))
    parts = parts_left(n_texts, part_size, done)
    covered = [i for start, stop in [*done, *parts] for i in range(start, stop)]
    assert len(covered) == len(set(covered))
    assert set(range(n_texts)) <= set(covered)
    assert all(start < stop <= n_texts for start, stop in parts)
    assert all(start // part_size == (stop - 1) // part_size for start, stop in parts)
