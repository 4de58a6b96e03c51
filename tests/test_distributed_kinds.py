"""Two processes and one: the same rows and weights, whatever the noise needs to know."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import NO_DROPOUT, tiny_bert
from safetensors.torch import load_file
from test_distributed import results_of
from test_kinds import NEIGHBOURS

from robust_nlp import pipeline
from robust_nlp.denoising import DenoiserTraining, MaskedLMSettings
from robust_nlp.mechanisms import GaussianEmbedding, RandomMasking, SynonymSmoothing
from robust_nlp.recipe import ProjectionRecipe, Recipe, TrainRecipe, recipe_to_yaml
from robust_nlp.results import RunDirectory

# Two processes that import everything anew, once for all tests; and all of it again by one.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::robust_nlp.errors.RobustNLPWarning"),
]

#: What each process runs: stages of the pipeline, one after the other.
SCRIPT = """
import json, sys
import torch.distributed as dist
from robust_nlp import pipeline
from robust_nlp.recipe import load_recipe
for stage, recipe, output in json.loads(sys.argv[1]):
    getattr(pipeline, stage)(load_recipe(recipe), output)
dist.destroy_process_group()
"""

#: Plain descent: the two processes must take the very steps of the one. Four steps.
STEPS = {
    "optim": "sgd",
    "learning_rate": 0.01,
    "max_grad_norm": 0.0,
    "num_train_epochs": 2,
    "disable_tqdm": True,
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
}
BATCH = 12


def without_dropout(model: str, folder: Path) -> Path:
    names = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    return tiny_bert(folder, model, initializer_range=0.3, **names, **NO_DROPOUT)


def recipes(tiny_recipe: Recipe, folder: Path, processes: int) -> dict[str, Recipe]:
    """The experiments, with batches of one size over all processes."""
    args = {**STEPS, "per_device_train_batch_size": BATCH // processes}
    gaussian = GaussianEmbedding(sigma=0.5, swaps=str(folder / "neighbours.json"))
    denoiser = MaskedLMSettings(
        model=str(folder / "masked-lm"),
        fills=2,
        temperature=1.0,
        train=DenoiserTraining(args=args, stability=0.5),
    )
    base = dataclasses.replace(tiny_recipe.model, base=str(folder / "classifier"))

    def certifying(mechanism, **settings) -> Recipe:
        certify = dataclasses.replace(tiny_recipe.certify, attackers=("substitute",), limit=16)
        return dataclasses.replace(tiny_recipe, mechanism=mechanism, certify=certify, **settings)

    return {
        "synonyms": certifying(SynonymSmoothing(swaps=gaussian.swaps)),
        "gaussian": certifying(
            gaussian,
            model=base,
            train=TrainRecipe(
                args=args, consistency=1.0, projection=ProjectionRecipe(rank=4, collapse=0.5)
            ),
        ),
        "denoised": certifying(RandomMasking(p_mask=0.5), model=base, denoiser=denoiser),
    }


#: What runs, in this order; a certification comes after the training of its models.
STAGES = [
    ("certify", "synonyms"),
    ("train", "gaussian"),
    ("certify", "gaussian"),
    ("train_denoiser", "denoised"),
    ("certify", "denoised"),
]


@pytest.fixture(scope="module")
def runs(tiny_recipe, tmp_path_factory) -> Path:
    """A folder of runs: by `two` processes, trained by `one`, and certified `again` by one."""
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "neighbours.json").write_text(json.dumps(NEIGHBOURS), encoding="utf-8")
    without_dropout("BertForSequenceClassification", folder / "classifier")
    without_dropout("BertForMaskedLM", folder / "masked-lm")
    script, stages = folder / "script.py", []
    script.write_text(SCRIPT, encoding="utf-8")
    two = recipes(tiny_recipe, folder, processes=2)
    for stage, name in STAGES:
        path = folder / f"{name}.yaml"
        path.write_text(recipe_to_yaml(two[name]), encoding="utf-8")
        stages.append((stage, str(path), str(folder / "two" / name)))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node", "2", script, json.dumps(stages)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    one = recipes(tiny_recipe, folder, processes=1)
    for stage, name in STAGES:
        if stage != "certify":
            getattr(pipeline, stage)(one[name], folder / "one" / name)
        else:  # weights differ by rounding: certify the very same ones
            shutil.copytree(folder / "two" / name, folder / "again" / name)
            shutil.rmtree(folder / "again" / name / "certificates")
            pipeline.certify(two[name], folder / "again" / name)
    return folder


def assert_same_weights(one: Path, two: Path, start: Path) -> None:
    weights, others, before = (
        load_file(folder / "model.safetensors") for folder in (one, two, start)
    )
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=1e-4, atol=1e-5)
    moved = [float((weights[name] - before[name]).abs().max()) for name in before]
    assert max(moved) > 1e-3


@pytest.mark.parametrize("name", ["synonyms", "gaussian", "denoised"])
def test_two_processes_share_a_certification(name, runs):
    one, two = (RunDirectory(runs / by / name) for by in ("again", "two"))
    stages = [run.manifest()["stages"]["certify"] for run in (one, two)]
    assert [stage["processes"] for stage in stages] == [1, 2]
    assert all(stage["complete"] for stage in stages)
    assert two.parts_done() == one.parts_done() == {(0, 8), (8, 16)}
    assert results_of(two) == results_of(one)
    for content in {"data", "classifier", "swaps"} & set(one.manifest()):
        hashes = {run.manifest()[content]["content_hash"] for run in (one, two)}
        assert len(hashes) == 1


def test_two_processes_train_under_noise_on_embeddings_as_one(runs):
    one, two = (RunDirectory(runs / by / "gaussian") for by in ("one", "two"))
    assert [run.manifest()["stages"]["train"]["steps"] for run in (one, two)] == [4, 4]
    assert two.manifest()["stages"]["train"]["processes"] == 2
    assert_same_weights(one.model, two.model, runs / "classifier")


def test_two_processes_train_a_denoiser_as_one(runs):
    one, two = (RunDirectory(runs / by / "denoised") for by in ("one", "two"))
    assert [run.manifest()["stages"]["train_denoiser"]["steps"] for run in (one, two)] == [4, 4]
    assert two.manifest()["stages"]["train_denoiser"]["processes"] == 2
    assert_same_weights(one.denoiser, two.denoiser, runs / "masked-lm")
