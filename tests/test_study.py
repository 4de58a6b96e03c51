"""Whole studies: what is trained and measured, kept, gone on with, and refused."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file
from study_reviews import DOMAINS, reviews, study_recipe, with_study
from tiny import tiny_model, wordpiece
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import robust_nlp.training.run
from robust_nlp import environment, pipeline
from robust_nlp.fishr.trainer import FishrTrainer
from robust_nlp.recipe import Recipe
from robust_nlp.results import RunDirectory
from robust_nlp.study import drive
from robust_nlp.study.drive import run_study
from robust_nlp.study.passes import training_passes
from robust_nlp.study.runs import study_runs
from robust_nlp.study.texts import with_deletions
from robust_nlp.study.words import cautions
from robust_nlp.training.settings import FreeLB

gc.freeze()  # every training collects garbage, and nothing that was imported is any

N_RUNS = 12


@dataclasses.dataclass
class Trained:
    """A study that was run, and what its trainings were given."""

    recipe: Recipe
    output: Path
    said: str
    given: list[dict[str, Any]]

    def numbers(self, variant: str, domain: str, seed: int) -> dict[str, Any]:
        path = self.output / variant / domain / f"seed-{seed}" / "measured.json"
        return json.loads(path.read_text(encoding="utf-8"))

    def answers(self, variant: str, domain: str, seed: int) -> list[dict[str, Any]]:
        path = self.output / variant / domain / f"seed-{seed}" / "answers.parquet"
        return parquet.read_table(path).to_pylist()

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads((self.output / "study.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Trained:
    """Three domains, two variants and two seeds, trained for a few steps."""
    folder = tmp_path_factory.mktemp("study")
    recipe = study_recipe(folder, certify=2, draws=2, deleted=0.4)
    given: list[dict[str, Any]] = []
    train = robust_nlp.training.run.train

    def watched(own, training, validation, output):
        given.append({"recipe": own, "train": training, "validation": validation})
        return train(own, training, validation, output)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robust_nlp.training.run, "train", watched)
        said = run_study(recipe, folder / "out")
    return Trained(recipe, folder / "out", said, given)


def never_reads(given: dict[str, Any], domain: str) -> bool:
    """Whether a training saw nothing of a domain, by the texts themselves."""
    own = {
        row["text"]
        for split in ("train", "validation")
        for row in reviews(split)
        if row["domain"] == domain
    }
    return not own & {*given["train"].texts, *given["validation"].texts}


def test_no_training_reads_the_domain_that_is_held_out(study):
    assert len(study.given) == N_RUNS
    for given in study.given:
        (domain,) = given["recipe"].data.hold_out
        assert never_reads(given, domain)
        assert set(given["train"].domains) == set(DOMAINS) - {domain}
    leaky = dataclasses.replace(study.recipe.data, hold_out=())
    splits = pipeline.training_splits(dataclasses.replace(study.recipe, data=leaky))
    assert not never_reads(dict(zip(("train", "validation"), splits, strict=True)), "dvd")


def test_each_variant_is_trained_as_it_says_with_each_seed(study):
    found = Counter(
        (own.train.domains.objective, own.data.hold_out[0], own.seed)
        for own in (given["recipe"] for given in study.given)
    )
    assert found == Counter(
        (name, domain, seed)
        for name in ("reweighted_erm", "fishr")
        for domain in DOMAINS
        for seed in (0, 1)
    )


@pytest.mark.parametrize("variant", ["plain", "fishr"])
@pytest.mark.parametrize("domain", DOMAINS)
def test_numbers_follow_from_the_answers(study, variant, domain):
    rows, numbers = study.answers(variant, domain, 1), study.numbers(variant, domain, 1)
    test = reviews("test")
    held_out = [row for row in rows if row["held_out"]]
    assert sorted(row["row"] for row in held_out) == [
        i for i, row in enumerate(test) if row["domain"] == domain
    ]
    assert sorted(row["row"] for row in rows) == list(range(len(test)))
    assert all(test[row["row"]]["label"] == row["label"] for row in rows)
    measures = numbers["measures"]
    right = sum(row["answer"] == row["label"] for row in held_out)
    assert measures["accuracy"] == pytest.approx(right / len(held_out))
    kept = sum(a == row["label"] for row in held_out for a in row["deleted_answers"])
    assert all(len(row["deleted_answers"]) == 2 for row in held_out)
    assert measures["deleted_accuracy"] == pytest.approx(kept / len(held_out) / 2)
    assert measures["robustness_score"] == pytest.approx((2 * right - kept) / len(held_out) / 2)
    each = {}
    for name in set(DOMAINS) - {domain}:
        of = [row for row in rows if row["domain"] == name]
        assert not any(row["held_out"] or row["deleted_answers"] for row in of)
        each[name] = sum(row["answer"] == row["label"] for row in of) / len(of)
    assert numbers["seen_accuracies"] == pytest.approx(each)
    assert measures["seen_accuracy"] == pytest.approx(sum(each.values()) / 2)
    assert measures["worst_seen_accuracy"] == min(each.values())
    certified = RunDirectory(study.output / variant / domain / "seed-1" / "certified").rows()
    assert len(certified) == 2
    for radius in range(4):
        reached = sum(
            row["predicted"] == row["label"] and row["radius"] >= radius for row in certified
        )
        assert measures[f"certified_accuracy_{radius}"] == pytest.approx(reached / 2)
    assert [row["certified"] for row in rows] == [True] * 2 + [False] * (len(rows) - 2)


def test_the_report_compares_what_the_runs_hold(study):
    accuracy = {
        (v, d, s): study.numbers(v, d, s)["measures"]["accuracy"]
        for v in ("plain", "fishr")
        for d in DOMAINS
        for s in (0, 1)
    }
    plain, fishr = study.facts["variants"]
    for each in (plain, fishr):
        for domain in DOMAINS:
            mean = np.mean([accuracy[each["variant"], domain, seed] for seed in (0, 1)])
            assert each["domains"][domain]["accuracy"] == pytest.approx(mean)
    found = fishr["differences"]["accuracy"]
    by_seed = {
        str(s): np.mean([accuracy["fishr", d, s] - accuracy["plain", d, s] for d in DOMAINS])
        for s in (0, 1)
    }
    assert found["by_seed"] == pytest.approx(by_seed)
    assert fishr["cost"]["passes"] == plain["cost"]["passes"] == 16.0
    assert plain["cost"]["texts_read"] == 16 * 16
    assert fishr["cost"]["relative_texts_read"] == 1.0
    assert fishr["cost"]["seconds"] > 0.0
    assert study.facts["measured_runs"] == study.facts["planned_runs"] == N_RUNS
    assert "incomplete" not in study.said
    markdown = (study.output / "study.md").read_text(encoding="utf-8")
    for words in ("| fishr |", "| air | books | dvd |", "certified r = 3", "seeds:\n  - 0\n  - 1"):
        assert words in markdown
    assert "certified held-out accuracy at radius 0" in str(study.facts["measures"])
    host = environment.host("cpu")
    assert study.facts["hosts"] == [host]
    assert f"cpu {host['cpu']}; cores {host['cores']}; device cpu; python" in markdown
    assert "different machines" not in markdown
    moved = {**study.facts, "hosts": [host, {**host, "cpu": "another"}]}
    assert any("different machines" in line for line in cautions(moved))


def test_models_are_dropped_and_what_made_them_stays(study):
    for run in study_runs(study.recipe, study.output, DOMAINS):
        names = {path.name for path in (run.path / "model").iterdir()}
        assert names == {"config.json", "smoothing.json"}
        assert RunDirectory(run.path).recipe() == run.recipe


def test_nothing_is_done_twice(study, monkeypatch):
    monkeypatch.setattr(drive, "measure", None)
    monkeypatch.setattr(pipeline, "train", None)
    before = (study.output / "study.json").read_text(encoding="utf-8")
    assert run_study(study.recipe, study.output) == study.said
    again = json.loads((study.output / "study.json").read_text(encoding="utf-8"))
    assert again["runs"] == json.loads(before)["runs"]


def test_a_run_is_an_ordinary_training_and_answers_are_those_of_its_model(study, tmp_path):
    recipe = with_study(study.recipe, keep_models=True, hold_out=("dvd",), seeds=(1,), certify=None)
    run_study(recipe, tmp_path / "out", only=["fishr"])
    run = study_runs(recipe, tmp_path / "out", ["dvd"])[1]
    pipeline.train(run.recipe, tmp_path / "alone")
    one, other = (
        load_file(path / "model" / "model.safetensors") for path in (run.path, tmp_path / "alone")
    )
    assert all(torch.equal(one[name], other[name]) for name in other)
    model = AutoModelForSequenceClassification.from_pretrained(run.path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")

    def classes(texts: list[str]) -> list[int]:
        with torch.no_grad():
            logits = model(**tokenizer(texts, return_tensors="pt", padding=True)).logits
        return logits.argmax(dim=-1).tolist()

    texts = [row["text"] for row in reviews("test")]
    answers = parquet.read_table(run.path / "answers.parquet").to_pylist()
    assert {row["row"]: row["answer"] for row in answers} == dict(enumerate(classes(texts)))
    for row in answers[:12]:
        if row["held_out"]:
            text = texts[row["row"]]
            (versions,) = with_deletions([text], 0.4, draws=2, seed=0, protected="second")
            assert row["deleted_answers"] == classes(versions)
    # The same numbers as in the study of all variants: nothing depends on what was trained before.
    assert answers[0]["answer"] == study.answers("fishr", "dvd", 1)[0]["answer"]
    assert 5 < sum(row["answer"] for row in answers) < len(answers) - 5  # it tells texts apart
    numbers = study.numbers("fishr", "dvd", 1)["measures"]
    found = json.loads((run.path / "measured.json").read_text())["measures"]
    assert found == {name: numbers[name] for name in found}


def test_an_interrupted_training_goes_on_inside_a_study(study, tmp_path, monkeypatch):
    args = {**study.recipe.train.args, "save_strategy": "steps", "save_steps": 2}
    train = dataclasses.replace(study.recipe.train, args=args)
    recipe = with_study(
        dataclasses.replace(study.recipe, train=train),
        hold_out=("dvd",),
        seeds=(0,),
        certify=None,
        deleted=None,
        limit=2,
    )
    step, calls = FishrTrainer.training_step, []

    def stop(self, *given, **options):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return step(self, *given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(FishrTrainer, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            run_study(recipe, tmp_path / "out", only=["fishr"])
    run_study(recipe, tmp_path / "out", only=["fishr"])
    numbers = json.loads((tmp_path / "out/fishr/dvd/seed-0/measured.json").read_text())
    assert numbers["training"]["resumed_at"] == 4
    assert numbers["training"]["passes"] is None
    assert not (tmp_path / "out/fishr/dvd/seed-0/checkpoints").exists()


def test_passes_are_those_of_training():
    model = tiny_model("GPT2", wordpiece())
    batch = {"input_ids": torch.ones(3, 4, dtype=torch.long), "return_dict": False}
    with training_passes() as passes:
        model(**batch)
        model.base_model.train()(batch["input_ids"])
        assert passes.count == 0
        model.train()(**batch)
    model(**batch)
    assert (passes.count, passes.texts) == (1, 3)


def test_attacks_on_embeddings_cost_passes(study, tmp_path):
    adversarial = FreeLB(steps=2)
    recipe = with_study(
        study.recipe,
        variants={"plain": {}, "freelb": {"train.adversarial": {"kind": "freelb", "steps": 2}}},
        hold_out=("dvd",),
        seeds=(0,),
        certify=None,
        deleted=None,
        limit=2,
    )
    assert recipe.variant("freelb").train.adversarial == adversarial
    run_study(recipe, tmp_path / "out", only=["freelb"])
    numbers = json.loads((tmp_path / "out/freelb/dvd/seed-0/measured.json").read_text())
    assert numbers["training"]["passes"] == 16 * 3  # one clean and two perturbed
    assert numbers["training"]["texts_read"] == 16 * 3 * 16
