"""What newcomers bring and mistake: it works, or they are told what to do."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import pytest
from conftest import tiny_bert
from typer.testing import CliRunner

from robust_nlp.cli import app
from robust_nlp.data import load_split
from robust_nlp.errors import DataError, ModelError, RecipeError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.labels import class_indices
from robust_nlp.loading import load_tokenizer
from robust_nlp.recipe import DataRecipe, load_recipe
from robust_nlp.results import RunDirectory
from robust_nlp.training.run import load_for_training
from robust_nlp.validation import validate


def read(path):
    return load_split(DataRecipe(files={"test": str(path)}, text="review", label="stars"), "test")


@pytest.mark.parametrize("mark", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_files_of_spreadsheets_are_read(tmp_path, mark, encoding):
    path = tmp_path / "test.csv"
    rows = ["review;stars", '"dear; slow, dull";1.0', "schön;0"]
    path.write_text("\r\n".join(rows).replace(";", mark) + "\r\n", encoding=encoding)
    split = read(path)
    assert split.texts == ["dear; slow, dull".replace(";", mark), "schön"]
    assert split.labels == [1, 0]


def test_a_comma_in_the_header_wins_over_a_semicolon(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("review,stars,a;b\nfine; good,1,0\n", encoding="utf-8")
    assert read(path).texts == ["fine; good"]


def test_another_encoding_is_named(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("review,stars\nschön,1\n", encoding="latin-1")
    with pytest.raises(DataError, match=r"not UTF-8 .*0xf6.*; save it as UTF-8"):
        read(path)


def test_texts_with_commas_need_quotes(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("review,stars\nslow, dull,1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"Expected 2 columns, got 3.* between double quotes"):
        read(path)


def test_a_model_without_names_of_classes_is_no_riddle():
    with pytest.raises(DataError, match=r"write numbers from 0, or put the names into `id2label`"):
        class_indices(["good"], "column 'stars'", names=["LABEL_0", "LABEL_1"])
    assert class_indices(["1.0", "0"], "here", names=["LABEL_0", "LABEL_1"])[0] == [1, 0]


def test_recipes_and_runs_are_not_taken_for_each_other(tmp_path):
    recipe = tmp_path / "my.yaml"
    recipe.touch()
    with pytest.raises(DataError, match=r"my\.yaml is a file; expected the directory of a run"):
        RunDirectory(recipe).recipe()
    with pytest.raises(RecipeError, match=r"is a directory; expected the YAML file of a recipe"):
        load_recipe(tmp_path)
    shown = CliRunner().invoke(app, ["report", str(recipe)])
    assert shown.exit_code == 2
    assert "expected the directory of a run" in shown.stderr


def test_a_model_without_its_tokenizer_is_refused(tiny_classifier_dir, tiny_recipe, tmp_path):
    """It would read every word as unknown, and be certified to any radius."""
    bare = tmp_path / "bare"
    shutil.copytree(tiny_classifier_dir, bare, ignore=shutil.ignore_patterns("tokenizer*"))
    message = r"no tokenizer beside the model; save it there, with tokenizer\.save_pretrained\('"
    with pytest.raises(ModelError, match=message):
        HuggingFaceClassifier.from_pretrained(bare)
    model = dataclasses.replace(tiny_recipe.model, base=str(bare))
    with pytest.raises(ModelError, match=message):
        load_for_training(model, ["bad", "good"], protected="second")
    (finding,) = validate(dataclasses.replace(tiny_recipe, model=model))
    assert re.search(message, finding)


@pytest.mark.parametrize(
    "kind",
    ["bert", "roberta", "xlm-roberta", "albert", "deberta-v2", "gpt2", "t5", "modernbert", "xlnet"],
)
def test_no_family_has_a_tokenizer_made_of_nothing(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ModelError, match="no tokenizer beside the model"):
        load_tokenizer(str(tmp_path))


def test_training_without_labels_is_found_before_it_starts(tiny_recipe, tmp_path):
    base = tiny_bert(tmp_path / "headless", "BertModel")
    model = dataclasses.replace(tiny_recipe.model, base=str(base))
    data = dataclasses.replace(tiny_recipe.data, label=None)
    found = validate(dataclasses.replace(tiny_recipe, model=model, data=data))
    assert any("no classification head and must be trained first" in each for each in found)
    assert not any("trained first" in each for each in validate(tiny_recipe))


def test_a_model_that_is_not_there_is_said_to_be_missing_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=re.escape(f"no such folder here ({tmp_path}), and the")):
        HuggingFaceClassifier.from_pretrained("mymodle")


def test_a_model_with_more_classes_than_the_data_is_doubted(tiny_recipe, tmp_path):
    other = tiny_bert(tmp_path / "three", num_labels=3)
    model = dataclasses.replace(tiny_recipe.model, base=str(other))
    (finding,) = [
        each for each in validate(dataclasses.replace(tiny_recipe, model=model)) if "class" in each
    ]
    assert "has the class LABEL_2; the classifier knows 3 classes" in finding
    assert not any("class" in each for each in validate(tiny_recipe))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("model=roberta-base", r"model: expected a mapping; .* Write model: {base: roberta-base, "),
        ("mechanism=bag_deletion", r"Write mechanism: {kind: bag_deletion, \.\.\.}"),
        (
            "mechanism=deletion",
            r"Write mechanism: {kind: \.\.\.}, with one of randomized_deletion, ",
        ),
        ("data=reviews.csv", "got 'reviews.csv'. Its entries are path, config, revision, files, "),
    ],
)
def test_a_name_in_place_of_a_mapping_is_put_where_it_belongs(entry, message, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(
        "name: my\nmodel: {base: a}\ndata: {path: b}\nmechanism: {kind: bag_deletion, p_del: 0.9}\n"
    )
    with pytest.raises(RecipeError, match=message):
        load_recipe(path, [entry])
