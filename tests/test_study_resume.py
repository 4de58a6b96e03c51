"""Studies that are interrupted, enlarged and changed; nothing is trained here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from pyarrow import parquet
from study_reviews import reviews, study_recipe, with_study, write_rows
from typer.testing import CliRunner

import robust_nlp.training.run
from robust_nlp.augmentation.attacks import AttackedRow
from robust_nlp.cli import app
from robust_nlp.data import load_split
from robust_nlp.errors import MissingExtraError, RecipeError, RobustNLPWarning, RunMismatchError
from robust_nlp.recipe import Recipe, recipe_to_yaml
from robust_nlp.smoothing import save_smoothing
from robust_nlp.study import drive
from robust_nlp.study import measure as measuring
from robust_nlp.study.drive import run_study


@pytest.fixture
def quick(monkeypatch):
    """Trainings that save the model they start from, and are counted."""
    trained: list[Recipe] = []

    def save(own, training, validation, output):
        trained.append(own)
        base = robust_nlp.training.run.load_for_training(
            own.model, training.label_names, protected=own.data.protected
        )
        base.model.save_pretrained(output / "model")
        base.tokenizer.save_pretrained(output / "model")
        save_smoothing(output / "model", own.mechanism, max_length=base.max_length)
        names = ("metric", "best", "best_step", "history")
        return {"seconds": 1.0, "steps": 2, "resumed_at": 0, **dict.fromkeys(names)}

    monkeypatch.setattr(robust_nlp.training.run, "train", save)
    return trained


@pytest.fixture
def small(tmp_path) -> Recipe:
    """Two domains held out with one seed, and little measured."""
    return study_recipe(
        tmp_path, hold_out=["air", "dvd"], seeds=[0], draws=1, limit=4, control="plain"
    )


def test_an_interrupted_study_goes_on(small, quick, tmp_path, monkeypatch):
    measure, calls = drive.measure, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(drive, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_study(small, tmp_path / "out")
    assert len(quick) == 3  # the third is trained and not measured
    run_study(small, tmp_path / "out")
    assert len(quick) == 4
    assert len({(own.name, own.data.hold_out) for own in quick}) == 4


def test_runs_may_be_limited_and_variants_chosen(small, quick, tmp_path):
    said = run_study(small, tmp_path / "out", only=["fishr"], limit_runs=1)
    assert [own.name for own in quick] == ["tiny-study-fishr"]
    assert "incomplete study: 1 of 4 runs" in said
    assert "plain: not measured yet." in said
    run_study(small, tmp_path / "out", limit_runs=0)
    assert len(quick) == 1
    run_study(small, tmp_path / "out", only=["fishr"])
    assert [own.name for own in quick] == ["tiny-study-fishr"] * 2
    with pytest.raises(RecipeError, match=r"no variant 'fisher'; it has plain, fishr.*'fishr'"):
        run_study(small, tmp_path / "out", only=["fisher"])


def test_variants_seeds_and_domains_may_be_added(small, quick, tmp_path):
    run_study(small, tmp_path / "out")
    assert len(quick) == 4
    more = {**small.study.variants, "frozen": {"model.freeze": 0}}
    run_study(with_study(small, variants=more), tmp_path / "out")
    assert [own.name for own in quick[4:]] == ["tiny-study-frozen"] * 2
    run_study(with_study(small, seeds=(0, 1), hold_out=None, control="fishr"), tmp_path / "out")
    new = {(own.data.hold_out[0], own.seed) for own in quick[6:]}
    assert new == {("air", 1), ("books", 0), ("books", 1), ("dvd", 1)}
    assert len(quick) == 6 + 8


def test_a_changed_variant_is_refused_and_the_others_are_not(small, quick, tmp_path):
    run_study(small, tmp_path / "out")
    variants = {**small.study.variants, "fishr": {"train.domains.objective": "vrex"}}
    changed = with_study(small, variants=variants)
    with pytest.raises(RunMismatchError, match="2 of the runs that are there") as error:
        run_study(changed, tmp_path / "out")
    assert "train.domains.objective: 'fishr' in the run, 'vrex' in the recipe" in str(error.value)
    said = run_study(changed, tmp_path / "out", only=["plain"])
    assert "2 runs made with other settings left out" in said
    assert len(quick) == 4
    run_study(changed, tmp_path / "out", only=["fishr"], fresh=True)
    assert [own.train.domains.objective for own in quick[4:]] == ["vrex"] * 2


def test_other_measures_need_the_models(small, quick, tmp_path):
    run_study(small, tmp_path / "out", only=["plain"])
    for change, message in (
        ({"deleted": 0.5}, "deleted: 0.3 in the run, 0.5 now"),
        ({"limit": 3}, "limit: 4 in the run, 3 now"),
        ({"certify": 1}, "certify: None in the run, 1 now"),
        ({"drop_repeats": False}, "drop_repeats: True in the run, False now"),
    ):
        with pytest.raises(RunMismatchError, match=message):
            run_study(with_study(small, **change), tmp_path / "out")
    assert len(quick) == 2


def test_models_that_are_kept_are_measured_again(small, quick, tmp_path):
    kept = with_study(small, keep_models=True, certify=1, hold_out=("air",))
    run_study(kept, tmp_path / "out")
    run_study(with_study(kept, limit=2, certify=2), tmp_path / "out")
    assert len(quick) == 2
    answers = parquet.read_table(tmp_path / "out/plain/air/seed-0/answers.parquet").to_pylist()
    assert [row["certified"] for row in answers if row["held_out"]] == [True] * 2


def test_other_data_are_refused(small, quick, tmp_path):
    run_study(small, tmp_path / "out", only=["plain"])
    rows = reviews("train")
    write_rows(Path(small.data.files["train"]), [*rows[1:], rows[0]])
    with pytest.raises(RunMismatchError, match="content hash of the train"):
        run_study(small, tmp_path / "out", only=["plain"])


def test_a_model_that_is_lost_before_it_is_measured_is_trained_again(small, quick, tmp_path):
    run_study(small, tmp_path / "out", only=["plain"])
    (tmp_path / "out/plain/air/seed-0/measured.json").unlink()
    run_study(small, tmp_path / "out", only=["plain"])
    assert len(quick) == 3


def test_repeated_texts_are_warned_of_and_left_out(small, quick, tmp_path):
    rows = reviews("train")
    test = reviews("test")
    copied = next(row for row in test if row["domain"] == "air")
    repeat = {**copied, "text": copied["text"].upper() + "!", "domain": "books"}
    write_rows(Path(small.data.files["train"]), [*rows, repeat])
    whole = with_study(small, limit=None)
    with pytest.warns(RobustNLPWarning, match=r"\(1 of air\); they are left out"):
        run_study(whole, tmp_path / "out", only=["plain"])
    path = tmp_path / "out/plain/air/seed-0"
    answers = parquet.read_table(path / "answers.parquet").to_pylist()
    assert test.index(copied) not in {row["row"] for row in answers}
    assert json.loads((path / "measured.json").read_text())["repeats"]["held_out"] == 1
    assert "(1 of air), are left out" in (tmp_path / "out/study.md").read_text()


def test_attacks_are_counted(small, quick, tmp_path, monkeypatch):
    outcomes = ["success", "failed", "skipped", "error"]
    asked = []

    class Attacks:
        def __init__(self, settings, *, seed, protected):
            asked.append((settings.recipe, seed))

        def generate(self, base, texts, labels, **_):
            return [AttackedRow(text, outcomes[i], 10 * i) for i, text in enumerate(texts)]

    monkeypatch.setattr(drive, "textattack_version", lambda: "1")
    monkeypatch.setattr(measuring, "AdversarialExamples", Attacks)
    attack = dataclasses.replace(_attack(), limit=4)
    run_study(with_study(small, attack=attack, hold_out=("air",)), tmp_path / "out", only=["plain"])
    path = tmp_path / "out/plain/air/seed-0"
    answers = parquet.read_table(path / "answers.parquet").to_pylist()
    assert [row["attack"] for row in answers[:5]] == [*outcomes, None]
    numbers = json.loads((path / "measured.json").read_text())
    right = [row["answer"] == row["label"] for row in answers[:4]]
    assert numbers["measures"]["attacked_accuracy"] == sum(right[1:]) / 4
    assert numbers["attacks"] == {
        "error": 1,
        "failed": 1,
        "skipped": 1,
        "success": 1,
        "queries": 60,
    }
    assert asked == [("deepwordbug", 0)]


def _attack():
    from robust_nlp.study.settings import StudyAttack

    return StudyAttack()


def test_attacks_ask_for_textattack_before_anything_is_trained(small, quick, tmp_path, monkeypatch):
    def missing():
        raise MissingExtraError("This needs TextAttack, which is not installed.", "attack")

    monkeypatch.setattr(drive, "textattack_version", missing)
    with pytest.raises(MissingExtraError, match=r"robust-nlp\[attack\]"):
        run_study(with_study(small, attack=_attack()), tmp_path / "out")
    assert not quick


def test_the_command_goes_on_and_reports(small, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(recipe_to_yaml(small), encoding="utf-8")

    def command(*arguments):
        return CliRunner().invoke(app, ["domains", "study.yaml", *arguments])

    first = command("--limit-runs", "2", "--only", "plain")
    assert first.exit_code == 0, first.output
    assert "incomplete study: 2 of 4 runs" in first.stdout
    assert "The report is in runs/tiny-study/study.md" in first.stdout
    second = command()
    assert second.exit_code == 0, second.output
    assert len(quick) == 4
    assert "Accuracy in each held-out domain" in second.stdout
    refused = command("--set", "seed=3")
    assert refused.exit_code == 2
    assert "seed: 0 in the run, 3 now" in refused.stderr
    assert command("--set", "study=null").exit_code == 2
    assert len(json.loads(Path("runs/tiny-study/study.json").read_text())["runs"]) == 4


def test_labels_are_written_as_certification_reads_them(small, tmp_path):
    test = load_split(small.data, "test")
    measuring.write_texts(tmp_path / "texts.jsonl", small, test, [3, 1])
    data = dataclasses.replace(small.data, files={"held-out": str(tmp_path / "texts.jsonl")})
    again = load_split(data, "held-out", label_names=["0", "1"])
    assert again.texts == [test.texts[3], test.texts[1]]
    assert again.labels == [test.labels[3], test.labels[1]]
    assert again.domains == [test.domains[3], test.domains[1]]


def test_other_domains_may_pick_the_checkpoint(quick, tmp_path):
    recipe = study_recipe(tmp_path, seeds=[0, 1, 2], draws=1, limit=4, validate_on=1)
    run_study(recipe, tmp_path / "out")
    picked = {}
    for own in quick:
        (held_out,), (other,) = own.data.hold_out, own.data.validate_on
        assert other != held_out
        picked.setdefault((held_out, own.seed), set()).add(other)
    assert all(len(others) == 1 for others in picked.values())  # the same for all variants
    for domain in ("air", "books", "dvd"):
        first, second, third = (picked[domain, seed] for seed in (0, 1, 2))
        assert first == third != second  # the other two, in turns
    with pytest.raises(RecipeError, match="of which there are 2; got 3"):
        run_study(with_study(recipe, validate_on=3), tmp_path / "more")
    with pytest.raises(RecipeError, match="validate_on must be at least 0"):
        study_recipe(tmp_path, validate_on=-1)
