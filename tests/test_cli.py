"""The command: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robust_nlp import pipeline
from robust_nlp.cli import app
from robust_nlp.recipe import recipe_to_yaml
from robust_nlp.results import RunDirectory

COMMANDS = [
    "train",
    "train-denoiser",
    "certify",
    "score",
    "attack",
    "audit",
    "card",
    "doctor",
    "domains",
    "report",
    "validate",
    "env",
    "advise",
    "quickstart",
]


@pytest.fixture
def recipe_file(tiny_recipe, tmp_path, monkeypatch) -> Path:
    """The tiny recipe as a file in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_to_yaml(tiny_recipe), encoding="utf-8")
    return path


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_help_names_every_command():
    result = run("--help")
    assert result.exit_code == 0
    assert all(command in result.output for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    assert run(command, "--help").exit_code == 0


def test_help_does_not_import_torch():
    code = (
        "import sys\n"
        "from robust_nlp.cli import app\n"
        "try:\n    app(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_certify_writes_to_the_folder_of_the_recipes_name(recipe_file):
    result = run("certify", recipe_file, "--limit", 4, "--set", "certify.part_size=2")
    assert result.exit_code == 0, result.output
    assert "robust-nlp report runs/tiny" in result.output
    assert RunDirectory("runs/tiny").parts_done() == {(0, 2), (2, 4)}


def test_report_needs_no_model(recipe_file, tiny_recipe, monkeypatch):
    pipeline.certify(tiny_recipe, "out", limit=6)
    monkeypatch.setattr(pipeline, "load_classifier", None)
    result = run("report", "out", "--radii", "0,1", "--no-html", "--alpha", "0.05")
    assert result.exit_code == 0, result.output
    assert "limited run: the first 6 of 24 texts" in " ".join(result.output.split())
    assert not Path("out/report.html").exists()


def test_a_wrong_entry_is_one_message_and_exit_code_two(recipe_file):
    result = run("certify", recipe_file, "--set", "mechanism.p_dell=0.5")
    assert result.exit_code == 2
    assert result.stderr == ("Error: mechanism.p_dell: unexpected keyword. Did you mean 'p_del'?\n")


def test_a_wrong_value_is_one_message_and_exit_code_two(recipe_file, tiny_recipe):
    pipeline.certify(tiny_recipe, "out", limit=2)
    result = run("report", "out", "--alpha", "99.9")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: alpha is a failure probability")
    assert "Traceback" not in result.stderr


def test_a_missing_recipe_is_one_message(recipe_file):
    result = run("train", "nowhere.yaml")
    assert result.exit_code == 2
    assert "there is no recipe nowhere.yaml" in result.stderr


def test_a_changed_recipe_is_refused_and_fresh_helps(recipe_file):
    assert run("certify", recipe_file, "--limit", 2).exit_code == 0
    refused = run("certify", recipe_file, "--limit", 2, "--set", "seed=1")
    assert refused.exit_code == 2
    assert "seed: 0 in the run, 1 in the recipe" in refused.stderr
    again = run("certify", recipe_file, "--limit", 2, "--set", "seed=1", "--fresh")
    assert again.exit_code == 0, again.output


def test_radii_that_are_no_numbers_are_refused(recipe_file):
    result = run("report", "out", "--radii", "0,one")
    assert result.exit_code == 2
    assert "--radii takes numbers with commas between them" in " ".join(result.output.split())


def test_a_bug_keeps_its_traceback(recipe_file, monkeypatch):
    def broken(*_, **__):
        raise KeyError("a bug of ours")

    monkeypatch.setattr(pipeline, "certify", broken)
    result = run("certify", recipe_file)
    assert isinstance(result.exception, KeyError)


def test_an_error_of_another_package_keeps_its_traceback(recipe_file, monkeypatch):
    def broken(*_, **__):
        Path("a\0b").read_text()  # a ValueError of the standard library

    monkeypatch.setattr(pipeline, "certify", broken)
    assert isinstance(run("certify", recipe_file).exception, ValueError)


def test_an_interruption_says_how_to_go_on(recipe_file, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "certify", interrupted)
    result = run("certify", recipe_file)
    assert result.exit_code == 130
    assert result.stderr == (
        "Interrupted. Give the same command again to go on; what is finished is kept.\n"
    )


@pytest.mark.filterwarnings("default")
def test_a_caution_is_one_line(recipe_file):
    result = run("certify", recipe_file, "--limit", 4, "--set", "mechanism.p_del=0.4")
    assert result.exit_code == 0
    cautions = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
    assert len(cautions) == 1
    assert "the noise is too weak" in cautions[0]


def test_a_sound_recipe_is_valid(recipe_file):
    result = run("validate", recipe_file)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{recipe_file}: nothing found\n"


@pytest.mark.parametrize(
    ("override", "finding"),
    [
        ("model.base=nowhere/nothing", "cannot load tokenizer and configuration of"),
        ("data.text=txt", "has no column 'txt'; available: text, label"),
        ("certify.split=dev", "data.files has no split 'dev'; available: test, train, validation"),
        ("mechanism.p_del=0.4", "the noise is too weak"),
        ("mechanism.p_dell=0.4", "Did you mean 'p_del'?"),
        ("certify.plan={kind: exact, max_outcomes: 16}", "too many noisy versions"),
    ],
)
def test_what_would_go_wrong_is_found(recipe_file, override, finding):
    result = run("validate", recipe_file, "--set", override)
    assert result.exit_code == 1
    assert finding in result.stdout


def test_methods_and_variants_are_looked_over(recipe_file):
    strong = "strong: {}"
    weak = "weak: {set: {mechanism.p_del: 0.4, certify.model: nowhere}}"
    methods = f"compare={{baseline: strong, methods: {{{strong}, {weak}}}}}"
    result = run("validate", recipe_file, "--set", methods)
    assert result.exit_code == 1
    assert "2 found" in result.stdout
    assert "  - method weak: cannot load tokenizer and configuration of 'nowhere'" in result.stdout
    assert re.search("  - method weak: .*the noise is too weak", result.stdout)
    both = run("validate", recipe_file, "--set", methods, "--set", "data.text=txt")
    assert both.stdout.count("has no column 'txt'") == 1  # said once, not for each method
    study = "study={variants: {a: {}, b: {model.base: nowhere}}, control: a}"
    result = run("validate", recipe_file, "--set", study, "--set", "data.domain=label")
    assert "1 found\n  - variant b: cannot load tokenizer" in result.stdout


def test_every_recipe_is_looked_over(recipe_file):
    result = run("validate", "nowhere.yaml", recipe_file)
    assert result.exit_code == 1
    assert "nowhere.yaml: 1 found" in result.stdout
    assert f"{recipe_file}: nothing found" in result.stdout


def test_training_is_looked_over_where_the_model_has_no_head(
    recipe_file, tiny_classifier_dir, tmp_path
):
    from transformers import AutoModel, AutoTokenizer

    for auto in (AutoModel, AutoTokenizer):
        auto.from_pretrained(tiny_classifier_dir).save_pretrained(tmp_path / "encoder")
    base = f"model.base={tmp_path / 'encoder'}"
    assert run("validate", recipe_file, "--set", base).exit_code == 0
    for override, finding in (
        ("train.train_split=learn", "data.files has no split 'learn'"),
        ("train.args={lerning_rate: 1}", "Did you mean 'learning_rate'?"),
    ):
        result = run("validate", recipe_file, "--set", base, "--set", override)
        assert finding in result.stdout


def test_a_certified_model_without_a_head_is_found(recipe_file, tiny_classifier_dir, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    for auto in (AutoModel, AutoTokenizer):
        auto.from_pretrained(tiny_classifier_dir).save_pretrained(tmp_path / "encoder")
    result = run("validate", recipe_file, "--set", f"certify.model={tmp_path / 'encoder'}")
    assert "is no sequence classifier: it has no head" in result.stdout


def test_advice_compares_rates(recipe_file):
    result = run("advise", recipe_file, "--rates", "0.8,0.95")
    assert result.exit_code == 0, result.output
    for words in ("p_del 0.7", "p_del 0.8", "p_del 0.95", "texts in the dead zone", "24 texts"):
        assert words in result.output


def test_advice_counts_tokens_with_the_tokenizer(recipe_file):
    result = run("advise", recipe_file, "--set", "mechanism.unit=token")
    assert result.exit_code == 0, result.output
    assert "tokens kept per vote" in result.output


def test_env_shows_versions_device_and_extras():
    result = run("env")
    assert result.exit_code == 0
    for words in ("python: 3.", "torch: ", "device: ", "extra plot: "):
        assert words in result.output
