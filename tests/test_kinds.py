"""Every mechanism that a recipe may name: the whole way, interrupted, and again without a model."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
from pathlib import Path
from typing import get_args

import pytest
from conftest import BAD, GOOD, tiny_tokenizer
from tiny_lms import tiny_lm
from typer.testing import CliRunner

from robust_nlp import pipeline, swaps
from robust_nlp.certification import certificate_from_votes
from robust_nlp.cli import app
from robust_nlp.denoising import MaskedLMSettings
from robust_nlp.errors import RunMismatchError
from robust_nlp.mechanisms import AnyMechanism, SynonymSmoothing, combined, kernels
from robust_nlp.recipe import Recipe, recipe_from_dict, recipe_to_dict, recipe_to_yaml
from robust_nlp.report import RobustnessReport, write_report
from robust_nlp.reporting.schema import ReportFile
from robust_nlp.reporting.texts import votes_of_row
from robust_nlp.results import RunDirectory
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.validation import validate

#: Words that may stand in for each other: each of three for the next of them.
NEIGHBOURS = {
    word: [words[i - i % 3 + (i + 1) % 3]] for words in (GOOD, BAD) for i, word in enumerate(words)
}
KINDS = {
    "randomized_deletion": {"p_del": 0.4},
    "adaptive_deletion": {"keeps": [6.0]},
    "random_masking": {"p_mask": 0.4},
    "bag_deletion": {"p_del": 0.4},
    "reordering": {"block": 3},
    "synonym_smoothing": {"swaps": "neighbours.json"},
    "exponential_substitution": {
        "swaps": "neighbours.json",
        "epsilon": 0.5,
        "distances": "distances.json",
    },
    "combined": {
        "p_del": 0.2,
        "p_mask": 0.2,
        "p_substitute": 0.2,
        "vocabulary": "words.txt",
    },
    "gaussian_embedding": {"sigma": 0.5, "swaps": "neighbours.json"},
}
#: Where a masked language model repairs nothing.
NOTHING_TO_FILL_IN = (
    "bag_deletion",
    "reordering",
    "synonym_smoothing",
    "exponential_substitution",
)
#: What else a recipe needs to train two steps and to certify ten texts.
SMALL = {
    "train": {
        "selection_votes": 2,
        "selection_limit": 4,
        "args": {"max_steps": 2, "disable_tqdm": True, "per_device_train_batch_size": 4},
    },
    "certify": {
        "limit": 10,
        "part_size": 4,
        "plan": {"kind": "fixed", "n_selection": 8, "n_estimation": 24, "alpha": 0.05},
    },
}

# Tiny models and weak noise give little to certify, which is cautioned.
pytestmark = pytest.mark.filterwarnings("ignore::robust_nlp.errors.RobustNLPWarning")


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch) -> Path:
    """The files that mechanisms read, in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_files()
    return tmp_path


def write_files(**changed) -> None:
    """Write the files, as another process would find them."""
    groups = [words[i : i + 3] for words in (GOOD, BAD) for i in (0, 3)]
    distances = {a: {b: 1.0 for b in group if b > a} for group in groups for a in group}
    contents = {
        "swaps": ("neighbours.json", json.dumps(NEIGHBOURS)),
        "distances": ("distances.json", json.dumps(distances)),
        "vocabulary": ("words.txt", "\n".join(GOOD)),
    }
    for setting, (name, content) in contents.items():
        Path(name).write_text(changed.get(setting, content), encoding="utf-8")
    for cached in (swaps._load_named, kernels._distances_from_file, combined._read):
        cached.cache_clear()


def recipe_of(kind: str, tiny_recipe: Recipe, **mechanism) -> Recipe:
    values = recipe_to_dict(tiny_recipe)
    del values["certify"]["attackers"]
    for part, entries in SMALL.items():
        values[part] |= entries
    return recipe_from_dict(values | {"mechanism": {"kind": kind, **KINDS[kind], **mechanism}})


def certify_and_stop_after_one_part(recipe: Recipe, output: Path, monkeypatch) -> None:
    votes, calls = SmoothedClassifier.votes, []

    def interrupted(self, texts, *args, **kwargs):
        calls.append(texts)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return votes(self, texts, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(SmoothedClassifier, "votes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pipeline.certify(recipe, output)


def test_every_kind_is_here():
    assert set(KINDS) == {mechanism.kind for mechanism in get_args(AnyMechanism)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_way(kind, tiny_recipe, tiny_texts, tmp_path, monkeypatch):
    recipe = recipe_of(kind, tiny_recipe)
    run = pipeline.train(recipe, tmp_path / "run")
    assert run.manifest()["stages"]["train"]["steps"] == 2
    certify_and_stop_after_one_part(recipe, run.path, monkeypatch)
    assert run.parts_done() == {(0, 4)}
    pipeline.certify(recipe, run.path)
    assert run.parts_done() == {(0, 4), (4, 8), (8, 10)}

    # The rows are those of the checkpoint, as it says itself how it is smoothed.
    attacker, plan = recipe.certify.attackers[0], recipe.certify.plan
    smoothed = SmoothedClassifier.from_pretrained(run.model, device="cpu")
    records = smoothed.votes(tiny_texts[:10], plan, seed=recipe.seed, attacker=attacker)
    rows = run.rows()
    assert [votes_of_row(row) for row in rows] == [record.votes for record in records]
    assert len({row["predicted"] for row in rows}) > 1

    # Certificates and reports need neither model nor swaps.
    shutil.rmtree(run.model)
    for name in ("neighbours.json", "distances.json"):
        Path(name).unlink()
    swaps._load_named.cache_clear()
    mechanism = RunDirectory(run.path).recipe().mechanism
    for row in rows:
        again = certificate_from_votes(
            votes_of_row(row), mechanism, alpha=plan.alpha, attacker=attacker
        )
        for entry in ("predicted", "radius", "p_lower", "p_runner_up", "method", "dead_zone"):
            assert row[entry] == getattr(again, entry)
    assert "by attacker" in write_report(run.path)
    report = json.loads((run.path / "report.json").read_text(encoding="utf-8"))
    ReportFile.model_validate(report)
    limited = mechanism.swappable(()) is not None
    assert ("allowed substitutes" in report["summary"][0]) == limited
    assert {name: read["source"] for name, read in report["methods"]["read"].items()} == {
        name: entry for name, entry in KINDS[kind].items() if str(entry).endswith(("json", "txt"))
    }


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory) -> str:
    """A masked language model over the words of the tiny classifier."""
    folder, tokenizer = tmp_path_factory.mktemp("masked-lm"), tiny_tokenizer()
    tiny_lm("BertForMaskedLM", tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_denoiser_goes_with_it(kind, tiny_recipe, masked_lm, tmp_path):
    plain = recipe_of(kind, tiny_recipe)
    recipe = dataclasses.replace(plain, denoiser=MaskedLMSettings(model=masked_lm))
    whole = pipeline.certify(recipe, tmp_path / "whole", limit=6).rows()
    pipeline.certify(recipe, tmp_path / "parts", limit=2)
    parts = pipeline.certify(recipe, tmp_path / "parts", limit=6).rows()
    others = pipeline.certify(plain, tmp_path / "plain", limit=6).rows()
    votes, again, without = ([votes_of_row(row) for row in rows] for rows in (whole, parts, others))
    assert votes == again
    assert (votes == without) == (kind in NOTHING_TO_FILL_IN)
    findings = " ".join(validate(recipe))
    assert ("has nothing to fill in" in findings) == (kind in NOTHING_TO_FILL_IN)
    assert [each.profile for each in votes] == [each.profile for each in without]
    assert "a masked language model fills in its gaps" in str(
        RobustnessReport.load(tmp_path / "parts").to_dict()["methods"]["noise"]
    )


@pytest.mark.parametrize(
    ("kind", "setting", "other"),
    [
        ("synonym_smoothing", "swaps", json.dumps(NEIGHBOURS | {"film": ["plot"]})),
        ("gaussian_embedding", "swaps", json.dumps({**NEIGHBOURS, "good": []})),
        ("exponential_substitution", "distances", '{"good": {"great": 0.25}}'),
        ("combined", "vocabulary", "plot\n"),
    ],
)
def test_files_that_changed_are_refused(kind, setting, other, tiny_recipe, tmp_path):
    recipe = recipe_of(kind, tiny_recipe)
    run = pipeline.certify(recipe, tmp_path / "run", limit=2)
    assert run.manifest()[setting]["source"] == KINDS[kind][setting]
    write_files(**{setting: other})
    with pytest.raises(RunMismatchError, match=f"another content of the {setting} "):
        pipeline.certify(recipe_of(kind, tiny_recipe), run.path, limit=4)
    assert run.parts_done() == {(0, 2)}
    write_files()
    pipeline.certify(recipe_of(kind, tiny_recipe), run.path, limit=4)
    assert run.parts_done() == {(0, 2), (2, 4)}


def test_the_same_swaps_written_in_another_way_are_welcome(tiny_recipe, tmp_path):
    run = pipeline.certify(recipe_of("synonym_smoothing", tiny_recipe), tmp_path / "run", limit=2)
    backwards = {word.upper(): NEIGHBOURS[word] for word in sorted(NEIGHBOURS, reverse=True)}
    write_files(swaps=json.dumps(backwards, indent=4))
    pipeline.certify(recipe_of("synonym_smoothing", tiny_recipe), run.path, limit=3)
    assert len(run.rows()) == 3


def test_a_training_on_other_swaps_is_refused(tiny_recipe, tmp_path):
    recipe = recipe_of("synonym_smoothing", tiny_recipe)
    run = pipeline.train(recipe, tmp_path / "run")
    pipeline.train(recipe_of("synonym_smoothing", tiny_recipe), run.path)
    write_files(swaps=json.dumps({"good": ["fine"]}))
    with pytest.raises(RunMismatchError, match=r"training on other data .*'swaps'"):
        pipeline.train(recipe_of("synonym_smoothing", tiny_recipe), run.path)


def test_a_training_without_noise_reads_no_swaps(tiny_recipe, tmp_path):
    recipe = recipe_of("synonym_smoothing", tiny_recipe)
    plain = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, noise=False))
    Path("neighbours.json").unlink()
    run = pipeline.train(plain, tmp_path / "run")
    assert set(run.manifest()["stages"]["train"]["data"]) == {"train", "validation"}


def test_settings_that_hold_everything_have_no_contents_to_name():
    assert SynonymSmoothing(swaps={"a": ["b"]}).contents() == {}
    with gzip.open("packed.json.gz", "wt") as file:
        json.dump({"a": ["b"]}, file)
    (packed,) = SynonymSmoothing(swaps="packed.json.gz").contents().values()
    assert packed["content_hash"] == SynonymSmoothing(swaps={"a": ["b"]}).allowed.fingerprint


def test_wordnet_is_known_by_its_content(monkeypatch):
    found = []
    for words in ({"a": ["b"]}, {"a": ["c"]}):
        swaps._load_named.cache_clear()
        monkeypatch.setattr(swaps, "_wordnet", lambda words=words: words)
        found.append(SynonymSmoothing(swaps="wordnet").contents()["swaps"])
    swaps._load_named.cache_clear()
    assert [each["source"] for each in found] == ["wordnet", "wordnet"]
    assert found[0]["content_hash"] != found[1]["content_hash"]


def test_distances_are_known_by_words_and_numbers():
    tables = [
        {"a": {"b": 1.0}},
        {"b": {"a": 1.0}},
        {"a": {"b": 2.0}},
        {"a": {"c": 1.0}},
        {"a": {"b": 1.0}, "c": {"d": 1.0}},
    ]
    one, same, *others = [kernels.GivenDistances(table).fingerprint for table in tables]
    assert one == same
    assert len({one, *others}) == 4


def test_validation_names_a_missing_file_and_what_else_there_is(tiny_recipe, tmp_path):
    recipe = recipe_of("synonym_smoothing", tiny_recipe, swaps="gone.json")
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    result = CliRunner().invoke(app, ["validate", str(path), "--set", "data.text=txt"])
    assert result.exit_code == 1
    assert "there is no file 'gone.json'" in result.output
    assert "has no column 'txt'" in result.output


def test_texts_with_nothing_to_swap_are_cautioned_before_votes(tiny_recipe, tmp_path):
    Path("few.json").write_text('{"unheard": ["of"]}', encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    recipe = recipe_of("synonym_smoothing", tiny_recipe, swaps="few.json")
    path.write_text(recipe_to_yaml(recipe), encoding="utf-8")
    result = CliRunner().invoke(app, ["validate", str(path)])
    assert "100% of 10 texts have no word with an allowed substitute" in result.output
