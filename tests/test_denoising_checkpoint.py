"""What `validate` finds about a denoiser: whether it is there, of its kind, and has room."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from conftest import tiny_tokenizer
from tiny import tiny_model, wordpiece
from tiny_lms import parts
from transformers import AutoModel, BertConfig, BertForPreTraining

from robust_nlp import pipeline
from robust_nlp.denoising import CausalLMSettings, MaskedLMSettings, Seq2SeqSettings
from robust_nlp.denoising.checkpoint import check_checkpoint
from robust_nlp.denoising.settings import DenoiserTraining
from robust_nlp.errors import ModelError
from robust_nlp.mechanisms import RandomizedDeletion, RandomMasking, Reordering
from robust_nlp.recipe import Recipe
from robust_nlp.results import RunDirectory
from robust_nlp.validation import validate

MASKING = RandomMasking(p_mask=0.7)
SETTINGS = {
    "masked_lm": MaskedLMSettings,
    "seq2seq": Seq2SeqSettings,
    "causal_lm": CausalLMSettings,
}


def save(folder: Path, model, tokenizer) -> str:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """Checkpoints of all sorts."""
    folder = tmp_path_factory.mktemp("checkpoints")
    found = {}
    for name in ("wordpiece", "bart", "t5", "gpt2"):
        model, tokenizer = parts(name)
        found[name] = save(folder / name, model, tokenizer)
    model, tokenizer = parts("wordpiece")
    found["encoder"] = save(folder / "encoder", model.bert, tokenizer)
    pretraining = BertForPreTraining(BertConfig.from_pretrained(found["wordpiece"]))
    found["pretraining"] = save(folder / "pretraining", pretraining, tokenizer)
    model, tokenizer = parts("bart")
    found["bare bart"] = save(folder / "bare-bart", model.model, tokenizer)
    model, tokenizer = parts("gpt2")
    classifier = tiny_model("GPT2", tokenizer)
    found["classifier"] = save(folder / "classifier", classifier, tokenizer)
    model, tokenizer = parts("wordpiece")[0], wordpiece()
    tokenizer.mask_token = None
    found["no mask"] = save(folder / "no-mask", model, tokenizer)
    found["nothing"] = str(folder / "nothing")
    return found


@pytest.mark.parametrize(
    ("name", "kind", "trained"),
    [
        ("wordpiece", "masked_lm", True),
        ("pretraining", "masked_lm", True),
        ("bart", "masked_lm", True),
        ("encoder", "masked_lm", False),
        ("bart", "seq2seq", True),
        ("t5", "seq2seq", True),
        ("gpt2", "causal_lm", True),
    ],
)
def test_a_fitting_checkpoint_is_found_sound(folders, name, kind, trained):
    short = {} if kind == "masked_lm" else {"prompt": "{text}", "max_new_tokens": 8}
    settings = SETTINGS[kind](model=folders[name], **short)
    found = check_checkpoint(settings, MASKING)
    assert found.trained == trained
    assert found.tokenizer.name_or_path == folders[name]


@pytest.mark.parametrize(
    ("name", "kind", "settings", "message"),
    [
        ("nothing", "masked_lm", {}, "denoiser.model: cannot load tokenizer and configuration of"),
        ("gpt2", "masked_lm", {}, "is a GPT2LMHeadModel, no model of kind masked_lm; write "),
        ("wordpiece", "seq2seq", {}, "no model of kind seq2seq; write denoiser.kind: masked_lm"),
        ("wordpiece", "causal_lm", {}, "BertForMaskedLM, no model of kind causal_lm"),
        ("t5", "causal_lm", {}, "no model of kind causal_lm; write denoiser.kind: seq2seq"),
        (
            "classifier",
            "masked_lm",
            {},
            "models of type 'gpt2' cannot be of kind masked_lm; possible: causal_lm",
        ),
        ("classifier", "causal_lm", {}, "has no trained head that writes words"),
        ("bare bart", "seq2seq", {}, "is a BartModel, which has no trained head"),
        ("no mask", "masked_lm", {}, "denoiser: the tokenizer has no mask token"),
        (
            "wordpiece",
            "masked_lm",
            {"max_length": 65},
            "denoiser.max_length=65 is more than the 64 tokens that the model can read",
        ),
        ("wordpiece", "masked_lm", {"max_length": 2}, "leaves a denoiser no room for text"),
        ("gpt2", "causal_lm", {"max_new_tokens": 60}, "leave no room for text within 64 tokens"),
    ],
)
def test_what_does_not_fit_is_said(folders, name, kind, settings, message):
    chosen = SETTINGS[kind](model=folders[name], **settings)
    with pytest.raises(ModelError) as error:
        check_checkpoint(chosen, MASKING)
    assert message in str(error.value)


def with_denoiser(recipe: Recipe, settings, mechanism=None) -> Recipe:
    certify = dataclasses.replace(recipe.certify, attackers=())
    return dataclasses.replace(
        recipe, denoiser=settings, mechanism=mechanism or recipe.mechanism, certify=certify
    )


def test_a_sound_recipe_has_nothing_to_find(tiny_recipe, folders):
    for settings in (
        MaskedLMSettings(model=folders["wordpiece"]),
        MaskedLMSettings(model=folders["encoder"]),
        Seq2SeqSettings(model=folders["bart"]),
    ):
        assert validate(with_denoiser(tiny_recipe, settings)) == []


@pytest.mark.parametrize(
    ("training", "mechanism", "finding"),
    [
        ({"args": {"lerning_rate": 1}}, MASKING, "Did you mean 'learning_rate'?"),
        ({"train_split": "learn"}, MASKING, "data.files has no split 'learn'"),
        ({}, RandomizedDeletion(p_del=0.8, unit="token"), "a denoiser is trained on words"),
        ({}, Reordering(), "leaves words in their places; reordering moves them"),
        ({"stability": 1.0}, MASKING, "needs the very tokenizer of the denoiser"),
    ],
    ids=["arguments", "split", "unit", "order", "tokenizer"],
)
def test_training_is_looked_over_where_the_denoiser_has_no_head(
    tiny_recipe, folders, training, mechanism, finding
):
    chosen = MaskedLMSettings(
        model=folders["encoder"], gap_masks=1.0, train=DenoiserTraining(**training)
    )
    findings = validate(with_denoiser(tiny_recipe, chosen, mechanism))
    assert any(finding in found for found in findings), findings
    trained = dataclasses.replace(chosen, model=folders["wordpiece"])
    findings = validate(with_denoiser(tiny_recipe, trained, mechanism))
    assert not any(finding in found for found in findings)


def test_all_findings_are_told_together(tiny_recipe, folders):
    recipe = with_denoiser(tiny_recipe, MaskedLMSettings(model=folders["nothing"]))
    model = dataclasses.replace(recipe.model, base="nowhere/nothing")
    data = dataclasses.replace(recipe.data, text="txt")
    findings = validate(dataclasses.replace(recipe, model=model, data=data))
    assert len(findings) == 3


def test_the_denoiser_of_the_run_is_the_one_that_is_looked_at(tiny_recipe, folders, tmp_path):
    tokenizer = tiny_tokenizer()
    args = {"max_steps": 1, "disable_tqdm": True, "eval_strategy": "no", "save_strategy": "no"}
    args["load_best_model_at_end"] = False
    chosen = MaskedLMSettings(
        model=save(tmp_path / "base", AutoModel.from_pretrained(tiny_recipe.model.base), tokenizer),
        train=DenoiserTraining(args=args),
    )
    recipe = with_denoiser(tiny_recipe, chosen)
    run = tmp_path / "run"
    pipeline.train_denoiser(recipe, run)
    assert validate(recipe, run) == []
    (run / "denoiser" / "config.json").unlink()
    (finding,) = validate(recipe, run)
    assert f"denoiser.model: cannot load tokenizer and configuration of '{run}/denoiser'" in finding
    RunDirectory(run).update_manifest(stages={"train_denoiser": {"complete": False}})
    (finding,) = validate(recipe, run)
    assert "the training of the denoiser" in finding
