"""Comparisons with denoisers and attacks, from the command line and on two processes."""

from __future__ import annotations

import dataclasses
import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
from attack_victims import attack_data  # noqa: F401
from compare_reviews import METHODS, compare_recipe, facts_of, with_compare, without_times
from conftest import launch_two, tiny_bert
from pyarrow import parquet
from typer.testing import CliRunner

from robust_nlp.attacks import AttackRecipe
from robust_nlp.cli import app
from robust_nlp.compare import drive
from robust_nlp.compare.drive import compare_methods
from robust_nlp.denoising.settings import DenoiserTraining
from robust_nlp.errors import DataError, RobustNLPWarning
from robust_nlp.recipe import recipe_from_dict, recipe_to_dict, recipe_to_yaml
from robust_nlp.results import RunDirectory

SCRIPT = Path(__file__).parents[1] / "scripts" / "compare.py"
ATTACK = AttackRecipe(
    attacks=("deepwordbug", "pruthi"),
    limit=5,
    check_examples=1,
    search_votes=4,
    judge_votes=40,
    alpha=0.2,
    max_forwards=200,
    max_seconds=None,
)
TWO = {name: METHODS[name] for name in ("none", "deletion")}
needs_textattack = pytest.mark.skipif(
    find_spec("textattack") is None, reason="TextAttack is not installed"
)


def test_denoisers_are_trained_in_front_of_another_methods_classifier(tmp_path):
    model = tiny_bert(tmp_path / "lm", "BertForMaskedLM", initializer_range=0.7)
    args = {"max_steps": 2, "disable_tqdm": True, "save_strategy": "no", "eval_strategy": "no"}
    training = dataclasses.asdict(DenoiserTraining(stability=1.0, args=args))
    denoised = {
        "model_of": "Plain",
        "set": {
            "mechanism": {"kind": "random_masking", "p_mask": 0.8},
            "denoiser": {"kind": "masked_lm", "model": str(model), "train": training},
        },
    }
    methods = {"Plain": METHODS["none"], "denoised": denoised}
    recipe = compare_recipe(tmp_path, methods=methods, baseline="Plain")
    said = compare_methods(recipe, tmp_path / "out")
    assert (tmp_path / "out" / "denoised" / "denoiser").exists()
    assert "smoothed, denoised, with the classifier of Plain." in " ".join(said.split())
    assert "times that of Plain." in " ".join(said.split())
    assert "on the Pareto front is" in said or "on the Pareto front are" in said
    plain, found = facts_of(tmp_path / "out")["methods"]
    stages = RunDirectory(tmp_path / "out" / "denoised").manifest()["stages"]
    assert found["cost"]["training"]["seconds"] == pytest.approx(
        plain["cost"]["training"]["seconds"] + stages["train_denoiser"]["seconds"]
    )
    assert found["cost"]["memory"]["train_denoiser"] > 0
    before = (tmp_path / "out" / "denoised" / "denoiser" / "model.safetensors").read_bytes()
    compare_methods(recipe, tmp_path / "out")
    again = (tmp_path / "out" / "denoised" / "denoiser" / "model.safetensors").read_bytes()
    assert again == before
    assert without_times(facts_of(tmp_path / "out"))["methods"][1]["missing"] == {}


def by_name(facts):
    return {method["method"]: method for method in facts["methods"]}


@needs_textattack
def test_all_methods_are_attacked_alike_and_numbers_are_those_of_their_reports(
    attack_data,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    recipe = compare_recipe(tmp_path, methods=TWO, stages=["score", "certify", "attack"])
    recipe = dataclasses.replace(recipe, attack=ATTACK)
    out = tmp_path / "out"
    attack = drive.attack_recipe

    def interrupted(own, path):
        if path.name == "deletion":
            raise KeyboardInterrupt
        return attack(own, path)

    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", RobustNLPWarning)
        patch.setattr(drive, "attack_recipe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compare_methods(recipe, out)
    first = (out / "none" / "attacks" / "plain" / "rows.parquet").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RobustNLPWarning)
        said = compare_methods(recipe, out)
    assert (out / "none" / "attacks" / "plain" / "rows.parquet").read_bytes() == first
    facts = facts_of(out)
    assert facts["texts"]["attack"] == 5
    rows = {}
    for method, reading in (("none", "plain"), ("deletion", "smoothed")):
        found = next(m for m in facts["methods"] if m["method"] == method)
        own = json.loads((out / method / "attacks.json").read_text(encoding="utf-8"))
        (told,) = own["classifiers"].values()
        assert found["attacks"]["worst_case"] == told["worst_case"]["robust_accuracy"]
        assert list(own["classifiers"]) == [reading]
        path = out / method / "attacks" / reading / "rows.parquet"
        rows[method] = parquet.read_table(path).to_pylist()
        under = found["attacks"]["under"]
        assert list(under) == ["deepwordbug", "pruthi"]
        # The second attack had the texts that the first one left.
        lost = {
            r["example_id"]
            for r in rows[method]
            if r["attack"] == "deepwordbug" and r["outcome"] in ("success", "skipped", "uncertain")
        }
        assert under["deepwordbug"]["value"] == pytest.approx(1 - len(lost) / 5)
        assert under["pruthi"] == found["attacks"]["worst_case"]
        for example in found["attacks"]["examples"]:
            assert example["found"] != example["text"]
    texts = {
        name: {(r["example_id"], r["text"], r["label"]) for r in each}
        for name, each in rows.items()
    }
    assert texts["none"] == texts["deletion"]
    assert facts["methods"][1]["attacks"]["certificates"]["texts"] == 5
    standing = {name: m["attacks"]["worst_case"]["value"] for name, m in by_name(facts).items()}
    difference = by_name(facts)["deletion"]["against_baseline"]["attacked"]
    assert difference["value"] == pytest.approx(standing["deletion"] - standing["none"])
    assert difference["low"] < difference["value"] < difference["high"]
    assert any(front["kind"] == "attacked" for front in facts["fronts"])
    assert "Accuracy in % under attack" in said
    quiet = recipe_to_dict(recipe)
    quiet["report"]["texts"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RobustNLPWarning)
        compare_methods(recipe_from_dict(quiet), out)
    assert [m["attacks"]["examples"] for m in facts_of(out)["methods"]] == [[], []]


def test_the_command_compares_and_says_where_the_report_is(tmp_path):
    recipe = compare_recipe(tmp_path, methods=TWO)
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    arguments = ["compare", str(path), "-o", str(tmp_path / "out"), "--only", "none"]
    done = CliRunner().invoke(app, [*arguments, "--set", "score.limit=4", "--budget", "9"])
    assert done.exit_code == 0, done.output
    assert "compare.md" in done.output
    assert "on the Pareto front" not in done.output
    facts = facts_of(tmp_path / "out")
    assert facts["texts"]["score"] == 4
    assert facts["sizes"]["budget"] == 9.0
    assert [bool(m["missing"]) for m in facts["methods"]] == [False, True]
    done = CliRunner().invoke(app, [*arguments, "--only", "nobody"])
    assert done.exit_code == 2
    assert "the comparison has no method 'nobody'" in done.output


@pytest.mark.slow  # starts Python processes that import torch
def test_two_processes_share_the_stages_and_find_what_one_finds(tmp_path):
    recipe = compare_recipe(tmp_path, methods={n: METHODS[n] for n in ("none", "untrained")})
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    done = launch_two(SCRIPT, path, "--output", tmp_path / "out")
    assert done.stdout.count("which method, at what cost?") == 1
    facts = facts_of(tmp_path / "out")
    assert facts["processes"] == 2
    votes = RunDirectory(tmp_path / "out" / "untrained").rows()
    # One process measures the same classifiers again.
    for name in ("scores", "certificates", "timing.json"):
        for found in (tmp_path / "out").glob(f"*/{name}"):
            found.rename(found.with_name(f"{name}-of-two"))
    compare_methods(with_compare(recipe), tmp_path / "out")
    alone = RunDirectory(tmp_path / "out" / "untrained").rows()
    dropped = ("seconds", "votes_classified")
    assert [{k: v for k, v in row.items() if k not in dropped} for row in alone] == [
        {k: v for k, v in row.items() if k not in dropped} for row in votes
    ]
    assert without_times(facts_of(tmp_path / "out")) == without_times(facts)


@needs_textattack
def test_attacks_that_lack_something_are_refused_before_any_training(tmp_path):
    recipe = compare_recipe(tmp_path, methods=TWO, stages=["score", "attack"])
    attack = dataclasses.replace(ATTACK, attacks=("deepwordbug", "kuleshov"))
    with pytest.raises(DataError, match="'kuleshov' lacks"):
        compare_methods(dataclasses.replace(recipe, attack=attack), tmp_path / "out")
    assert not (tmp_path / "out").exists()
