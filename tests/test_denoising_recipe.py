"""Denoisers in recipes: settings, training, certification, and what a run directory keeps."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from conftest import tiny_bert
from transformers import BertForMaskedLM
from typer.testing import CliRunner

from robust_nlp import pipeline
from robust_nlp.cli import app
from robust_nlp.denoising import (
    CausalLMSettings,
    DenoisedClassifier,
    DenoiserTraining,
    MaskedLMSettings,
    Seq2SeqSettings,
)
from robust_nlp.errors import ModelError, RecipeError, RunMismatchError
from robust_nlp.recipe import Recipe, recipe_from_dict, recipe_to_dict, recipe_to_yaml
from robust_nlp.report import RobustnessReport
from robust_nlp.results import RunDirectory
from robust_nlp.settings import from_yaml


@pytest.fixture(scope="module")
def denoiser_dir(tmp_path_factory) -> Path:
    """A masked language model over the words of the tiny classifier."""
    return tiny_bert(tmp_path_factory.mktemp("denoiser"), "BertForMaskedLM", initializer_range=0.7)


def with_denoiser(recipe: Recipe, folder: Path, **settings) -> Recipe:
    args = {"max_steps": 2, "disable_tqdm": True, "save_steps": 1, "save_strategy": "steps"}
    args |= {"eval_strategy": "no", **settings.pop("args", {})}
    train = DenoiserTraining(args=args, **settings.pop("train", {}))
    certify = dataclasses.replace(recipe.certify, limit=10, part_size=4)
    denoiser = MaskedLMSettings(model=str(folder), train=train, **settings)
    return dataclasses.replace(recipe, denoiser=denoiser, certify=certify)


@pytest.mark.parametrize(
    "settings",
    [
        None,
        MaskedLMSettings(model="x", fills=2, temperature=0.5, gap_masks=0.25),
        MaskedLMSettings(model="x", train=DenoiserTraining(stability=1.0, args={"a": 1})),
        Seq2SeqSettings(model="x", prompt="a {text} b"),
        CausalLMSettings(model="x", revision="main"),
    ],
    ids=["none", "drawn", "trained", "seq2seq", "causal"],
)
def test_recipes_hold_denoisers(tiny_recipe, settings):
    recipe = dataclasses.replace(tiny_recipe, denoiser=settings)
    assert recipe_from_dict(from_yaml(recipe_to_yaml(recipe), "")) == recipe
    assert recipe_from_dict(recipe_to_dict(recipe)) == recipe


@pytest.mark.parametrize(
    ("denoiser", "message"),
    [
        ({"model": "x"}, r"denoiser\.kind: this entry is missing; expected one of masked_lm"),
        ({"kind": "masked", "model": "x"}, r"denoiser\.kind.*Did you mean 'masked_lm'"),
        ({"kind": "masked_lm"}, r"denoiser\.model: this entry is missing"),
        ({"kind": "masked_lm", "model": "x", "fill": 1}, r"denoiser\.fill.*Did you mean 'fills'"),
        ({"kind": "masked_lm", "model": "x", "fills": 2}, "denoiser: fills=2 versions would all"),
        (
            {"kind": "masked_lm", "model": "x", "train": {"limit": 0}},
            r"denoiser\.train: limit must be at least 1",
        ),
        ({"kind": "seq2seq", "model": "x", "prompt": "a"}, r"denoiser: prompt must hold \{text\}"),
        ("minilm", "denoiser: expected a mapping; got 'minilm'"),
    ],
)
def test_wrong_entries_are_errors_with_their_path(tiny_recipe, denoiser, message):
    values = {**recipe_to_dict(tiny_recipe), "denoiser": denoiser}
    with pytest.raises(RecipeError, match=message):
        recipe_from_dict(values)


def votes(run: RunDirectory) -> list:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.rows()]


def without_costs(rows: list) -> list:
    return [{k: v for k, v in row.items() if k != "votes_classified"} for row in rows]


def test_an_interrupted_certification_goes_on_to_the_same_votes(
    tiny_recipe, denoiser_dir, tmp_path
):
    recipe = with_denoiser(tiny_recipe, denoiser_dir, fills=2, temperature=1.0)
    whole = pipeline.certify(recipe, tmp_path / "whole")
    assert votes(whole) != votes(pipeline.certify(tiny_recipe, tmp_path / "plain", limit=10))
    parts = tmp_path / "parts"
    pipeline.certify(recipe, parts, limit=3)
    assert without_costs(votes(pipeline.certify(recipe, parts))) == without_costs(votes(whole))
    other = with_denoiser(tiny_recipe, denoiser_dir, fills=3, temperature=1.0)
    with pytest.raises(RunMismatchError, match=r"denoiser\.fills: 2 in the run, 3 in the recipe"):
        pipeline.certify(other, parts)
    faster = with_denoiser(tiny_recipe, denoiser_dir, fills=2, temperature=1.0, batch_tokens=7)
    pipeline.certify(faster, parts)
    assert "masked language model fills in its gaps, in 2 versions" in str(
        RobustnessReport.load(parts).to_dict()
    )


def test_another_denoiser_of_the_same_name_is_told_apart(tiny_recipe, denoiser_dir, tmp_path):
    folder = tmp_path / "denoiser"
    shutil.copytree(denoiser_dir, folder)
    recipe = with_denoiser(tiny_recipe, folder)
    pipeline.certify(recipe, tmp_path / "run", limit=2)
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[9] += 0.1
    model.save_pretrained(folder)
    with pytest.raises(RunMismatchError, match="another content of the classifier"):
        pipeline.certify(recipe, tmp_path / "run", limit=4)


def test_a_trained_denoiser_is_used_kept_and_told_apart(tiny_recipe, denoiser_dir, tmp_path):
    recipe = with_denoiser(tiny_recipe, denoiser_dir)
    run = pipeline.train_denoiser(recipe, tmp_path)
    stage = run.manifest()["stages"]["train_denoiser"]
    assert run.denoiser_trained
    assert stage["complete"]
    assert stage["steps"] == 2
    before = (run.denoiser / "model.safetensors").read_bytes()
    assert pipeline.train_denoiser(recipe, tmp_path).denoiser_trained
    assert (run.denoiser / "model.safetensors").read_bytes() == before
    classifier = pipeline.load_classifier(recipe, run, device="cpu")
    assert isinstance(classifier.base, DenoisedClassifier)
    assert classifier.base.denoiser.model.name_or_path == str(run.denoiser)
    pipeline.certify(recipe, tmp_path, limit=2)
    again = with_denoiser(tiny_recipe, denoiser_dir, args={"max_steps": 3})
    with pytest.raises(RunMismatchError, match=r"a denoiser made with other settings"):
        pipeline.train_denoiser(again, tmp_path)
    with pytest.raises(RunMismatchError, match=r"denoiser\.train\.args\.max_steps"):
        pipeline.certify(again, tmp_path)
    fresh = pipeline.train_denoiser(again, tmp_path, fresh=True)
    assert fresh.manifest()["stages"]["train_denoiser"]["steps"] == 3
    assert not fresh.rows()


def test_an_unfinished_training_of_a_denoiser_is_not_certified(tiny_recipe, denoiser_dir, tmp_path):
    recipe = with_denoiser(tiny_recipe, denoiser_dir)
    run = RunDirectory(tmp_path)
    run.start(recipe, stage="train_denoiser")
    (tmp_path / "denoiser-training").mkdir()
    assert run.denoiser_training
    with pytest.raises(ModelError, match=r"training of the denoiser .* is not finished"):
        pipeline.load_classifier(recipe, run, device="cpu")


def test_the_classifier_of_the_recipe_guides_the_denoiser(tiny_recipe, denoiser_dir, tmp_path):
    train = {"stability": 1.0, "classification": 0.5}
    recipe = with_denoiser(tiny_recipe, denoiser_dir, train=train)
    run = pipeline.train_denoiser(recipe, tmp_path)
    assert run.denoiser_trained


def test_only_masked_language_models_are_trained(tiny_recipe, tmp_path):
    with pytest.raises(RecipeError, match="the recipe has none"):
        pipeline.train_denoiser(tiny_recipe, tmp_path)
    recipe = dataclasses.replace(tiny_recipe, denoiser=CausalLMSettings(model="x"))
    with pytest.raises(RecipeError, match="one of kind causal_lm"):
        pipeline.train_denoiser(recipe, tmp_path)


def test_the_command_trains_a_denoiser(tiny_recipe, denoiser_dir, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_to_yaml(with_denoiser(tiny_recipe, denoiser_dir)), encoding="utf-8")
    result = CliRunner().invoke(app, ["train-denoiser", str(path), "-o", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert f"The denoiser is in {tmp_path / 'run' / 'denoiser'}" in result.output
