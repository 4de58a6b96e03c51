"""Run directories: what they keep, what they refuse, and what an interruption leaves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from study_reviews import study_recipe

from robust_nlp import environment, files, pipeline
from robust_nlp.attacks.settings import AttackRecipe
from robust_nlp.errors import DataError, RobustNLPWarning, RunMismatchError
from robust_nlp.recipe import recipe_from_dict
from robust_nlp.results import RunDirectory
from robust_nlp.scoring.settings import ScoreRecipe


def recipe(**entries):
    values = {
        "name": "small",
        "model": {"base": "some-model"},
        "data": {"path": "some-data"},
        "mechanism": {"kind": "randomized_deletion", "p_del": 0.9},
    }
    return recipe_from_dict({**values, **entries})


def row(example_id: int) -> dict:
    return {
        "example_id": example_id,
        "text_hash": "00",
        "text": f"text {example_id}",
        "pair": None,
        "label": None if example_id % 2 else 1,
        "n_units": 2,
        "exact": [0.25, 0.0],
        "remainder": 0.75,
        "selection": [3, 2],
        "looks": [[8, 2], [17, 3]],
        "schedule": [10, 20],
        "profile": [],
        "votes_asked": 25,
        "votes_classified": 11,
        "seconds": 0.5,
        "predicted": None if example_id % 2 else 0,
        "radius": None if example_id % 2 else 3,
        "p_lower": 0.6,
        "p_runner_up": 0.4,
        "alpha": 0.001,
        "method": "sequential",
        "dead_zone": False,
    }


def rows(start: int, stop: int) -> list[dict]:
    return [row(i) for i in range(start, stop)]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run with the certificates of four texts."""
    directory = RunDirectory(tmp_path / "run")
    directory.start(recipe())
    directory.write_part(0, 4, rows(0, 4))
    return directory


def test_making_the_object_does_not_touch_the_disk(tmp_path):
    assert RunDirectory(tmp_path / "run").parts_done() == set()
    assert not (tmp_path / "run").exists()


def test_rows_come_back_as_written_and_in_order(run):
    run.write_part(8, 10, rows(8, 10))
    run.write_part(4, 8, rows(4, 8))
    assert run.parts_done() == {(0, 4), (4, 8), (8, 10)}
    assert run.rows() == rows(0, 10)
    assert (run.certificates / "part-000004-000007.parquet").is_file()


def test_the_recipe_comes_back(run):
    assert run.recipe() == recipe()


def test_a_part_needs_one_row_an_example(run):
    with pytest.raises(ValueError, match="one row for each of the examples 4 to 7"):
        run.write_part(4, 8, rows(4, 7))


def test_rows_beyond_the_limit_stay_on_disk_and_out_of_sight(run):
    run.start(recipe(certify={"limit": 2}))
    assert run.rows() == rows(0, 2)
    run.start(recipe())
    assert run.rows() == rows(0, 4)


def test_the_manifest_says_what_was_used(run):
    manifest = run.manifest()
    assert manifest["schema"] == 1
    assert manifest["recipe"]["mechanism"]["p_del"] == 0.9
    assert manifest["versions"]["torch"] == environment.versions()["torch"]
    assert manifest["command"]


def test_stages_are_kept_side_by_side(run):
    run.update_manifest(stages={"train": {"seconds": 1.0}})
    run.update_manifest(stages={"certify": {"seconds": 2.0}}, labels=["no", "yes"])
    manifest = run.manifest()
    assert manifest["stages"] == {"train": {"seconds": 1.0}, "certify": {"seconds": 2.0}}
    assert manifest["labels"] == ["no", "yes"]


@pytest.mark.parametrize(
    ("entries", "difference"),
    [
        (
            {"mechanism": {"kind": "randomized_deletion", "p_del": 0.8}},
            "mechanism.p_del: 0.9 in the run, 0.8 in the recipe",
        ),
        (
            {"mechanism": {"kind": "adaptive_deletion", "keeps": [5]}},
            r"mechanism.kind: 'randomized_deletion' in the run, 'adaptive_deletion' in the recipe"
            r"(.|\n)*mechanism.keeps: None in the run, \[5.0\] in the recipe",
        ),
        ({"seed": 1}, "seed: 0 in the run, 1 in the recipe"),
        ({"certify": {"plan": {"alpha": 0.01}}}, "certify.plan.alpha: 0.001 in the run, 0.01 in"),
        (
            {"certify": {"attackers": ["delete"]}},
            r"certify.attackers\[0\]: 'insert\+delete\+substitute' in the run, 'delete' in",
        ),
        ({"data": {"files": {"test": "a.csv"}}}, "data.files.test: None in the run, 'a.csv' in"),
        ({"model": {"base": "some-model", "dtype": "bfloat16"}}, "model.dtype: 'float32' in"),
    ],
)
def test_another_recipe_is_refused_with_both_values(run, entries, difference):
    with pytest.raises(RunMismatchError, match=difference) as refusal:
        run.start(recipe(**entries))
    assert "Use --fresh to start again, or choose another --output" in str(refusal.value)
    assert run.recipe() == recipe()


@pytest.mark.parametrize(
    "entries",
    [
        {"name": "other"},
        {"report": {"radii": [0, 1]}},
        {"score": {"limit": 3}},
        {"attack": {"attacks": ["deepwordbug"], "limit": 3}},
        {"certify": {"limit": 2}},
        {"certify": {"attackers": ["insert+delete+substitute", "delete"]}},
        {"model": {"base": "some-model", "device": "cuda", "batch_tokens": 64}},
        {"train": {"consistency": 1.0}},
    ],
    ids=lambda entries: next(iter(entries)),
)
def test_what_cannot_change_a_vote_may_change(run, entries):
    run.start(recipe(**entries))
    assert run.parts_done() == {(0, 4)}
    assert run.recipe() == recipe(**entries)


def test_studies_attacks_and_scores_change_neither_a_weight_nor_a_vote(tmp_path):
    asked = study_recipe(tmp_path)
    asked = dataclasses.replace(
        asked,
        certify=dataclasses.replace(asked.certify, limit=4),
        attack=AttackRecipe(attacks=("checklist",), limit=3),
        score=ScoreRecipe(limit=3),
    )
    bare = dataclasses.replace(asked, study=None, attack=None, score=None)
    made = {}
    for name, chosen in {"asked": asked, "bare": bare}.items():
        pipeline.train(chosen, tmp_path / name)
        run = pipeline.certify(chosen, tmp_path / name)
        model = (run.model / "model.safetensors").read_bytes()
        made[name] = (model, [{**each, "seconds": 0.0} for each in run.rows()])
    assert len(made["asked"][1]) == 4
    assert made["asked"] == made["bare"]
    # Each of them is kept, then, for the other recipe.
    for name, other in {"asked": bare, "bare": asked}.items():
        before = RunDirectory(tmp_path / name).rows()
        pipeline.train(other, tmp_path / name)
        run = pipeline.certify(other, tmp_path / name)
        assert (run.model / "model.safetensors").read_bytes() == made["asked"][0]
        assert run.rows() == before


def test_attacks_of_the_training_are_no_free_entry(tmp_path):
    run = RunDirectory(tmp_path)
    run.start(recipe(), stage="train")
    run.model.mkdir()
    with pytest.raises(RunMismatchError, match=r"train\.attacks\.recipe: None in the run, 'deepw"):
        run.start(recipe(train={"attacks": {"recipe": "deepwordbug"}}))


def test_without_results_any_recipe_will_do(tmp_path):
    run = RunDirectory(tmp_path)
    run.start(recipe())
    run.start(recipe(seed=5))
    assert run.recipe().seed == 5


def test_fresh_deletes_certificates(run):
    run.update_manifest(stages={"certify": {"seconds": 2.0}})
    run.start(recipe(seed=5), fresh=True)
    assert run.rows() == []
    assert run.manifest()["stages"] == {}


def test_fresh_certificates_leave_the_model_alone(run):
    run.model.mkdir()
    run.start(recipe(), fresh=True)
    assert run.model.exists()
    with pytest.raises(RunMismatchError, match=r"holds a model(.|\n)*`train` with --fresh"):
        run.start(recipe(seed=5), fresh=True)


def test_fresh_training_deletes_model_and_checkpoints(run):
    run.model.mkdir()
    (run.path / "checkpoints").mkdir()
    run.start(recipe(seed=5), stage="train", fresh=True)
    assert not run.model.exists()
    assert not (run.path / "checkpoints").exists()
    assert run.parts_done() == set()


def test_a_trained_model_leaves_certification_free_to_change(tmp_path):
    run = RunDirectory(tmp_path)
    run.start(recipe(), stage="train")
    run.model.mkdir()
    run.start(recipe(certify={"split": "other", "plan": {"alpha": 0.01}}))
    with pytest.raises(RunMismatchError, match=r"train\.noise: True in the run, False in"):
        run.start(recipe(train={"noise": False}))


def test_an_interrupted_training_refuses_other_settings(tmp_path):
    run = RunDirectory(tmp_path)
    run.start(recipe(), stage="train")
    (run.path / "checkpoints").mkdir()
    with pytest.raises(RunMismatchError, match=r"train\.args\.num_train_epochs: None in the run"):
        run.start(recipe(train={"args": {"num_train_epochs": 2}}), stage="train")


def test_training_under_the_certificates_of_another_classifier_is_refused(run):
    with pytest.raises(RunMismatchError, match="certificates of another classifier"):
        run.start(recipe(), stage="train")


def test_other_data_under_the_same_name_are_refused(run):
    with pytest.raises(
        RunMismatchError, match=r"another content of the data .* None in the run, a"
    ):
        run.identify(data={"content_hash": "a"})


def test_the_same_data_are_welcome_again(tmp_path):
    run = RunDirectory(tmp_path)
    run.start(recipe())
    run.identify(data={"content_hash": "a", "rows": 4}, classifier={"content_hash": "b"})
    run.write_part(0, 4, rows(0, 4))
    run.identify(data={"content_hash": "a", "rows": 4}, classifier={"content_hash": "b"})
    with pytest.raises(RunMismatchError, match=r"content of the classifier .* b in the run, c now"):
        run.identify(data={"content_hash": "a"}, classifier={"content_hash": "c"})


def test_a_write_that_is_interrupted_leaves_no_part(run, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.write_part(4, 8, rows(4, 8))
    monkeypatch.undo()
    assert run.rows() == rows(0, 4)
    assert len(list(run.certificates.iterdir())) == 2
    run.start(recipe())
    assert len(list(run.certificates.iterdir())) == 1


def test_a_broken_part_is_named(run):
    path = run.certificates / "part-000004-000007.parquet"
    path.write_bytes(b"half")
    with pytest.raises(
        DataError, match=r"part-000004-000007\.parquet.*Delete it and certify again"
    ):
        run.rows()


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(DataError, match=r"is not a run directory: it has no recipe\.yaml"):
        RunDirectory(tmp_path).rows()


def test_going_on_with_other_versions_is_said(run):
    versions = {**run.manifest()["versions"], "torch": "1.0"}
    run.update_manifest(versions=versions)
    with pytest.warns(RobustNLPWarning, match="goes on with other versions.*torch 1.0 → "):
        run.start(recipe())


def test_the_commit_is_left_out_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment.git_commit() is None


def test_the_manifest_is_json_for_others(run):
    text = (run.path / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(text)["recipe"]["name"] == "small"
