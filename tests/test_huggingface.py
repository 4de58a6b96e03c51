"""Hugging Face models as base classifiers: any architecture, the same vote in every batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from tiny import ARCHITECTURES, byte_level_bpe, tiny_model, unigram, wordpiece

from robust_nlp import HuggingFaceClassifier, RandomizedDeletion, RandomMasking
from robust_nlp.errors import ModelError
from robust_nlp.inputs import read

TEXTS = [
    "the film isn't good , it's brilliant !",
    "a bad story , the plot is poor",
    "",
    "don't you think this is an awful, tedious picture?",
    "naïve café 中文 😀",
    "word " * 200,
]
WORD = RandomizedDeletion(p_del=0.5)


def reference(model, tokenizer, *texts: str, max_length: int = 64) -> np.ndarray:
    """Logits the plain way: the string, one at a time."""
    side = {1: True, 2: "only_first"}[len(texts)]
    encoded = tokenizer(*texts, truncation=side, max_length=max_length, return_tensors="pt")
    if encoded["input_ids"].shape[1] == 0:
        encoded = {"input_ids": torch.tensor([[tokenizer.eos_token_id]])}
    with torch.inference_mode():
        return model.eval()(**encoded).logits[0].double().numpy()


def everything(base: HuggingFaceClassifier, text, mechanism=WORD) -> bytes:
    opened = base.open(text, mechanism)
    return opened.encode(np.arange(opened.law.n_units)[None])[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_answers_as_on_the_plain_string(architecture):
    decoder = architecture in ("GPT2", "Llama", "Qwen2")
    tokenizer = byte_level_bpe(special_tokens_around=False) if decoder else byte_level_bpe()
    model = tiny_model(architecture, tokenizer, num_labels=3)
    base = HuggingFaceClassifier(model, tokenizer)
    words = " ".join(TEXTS[:2]).split()
    texts = [*TEXTS, *(" ".join(words[i : i + 4]) for i in range(len(words)))]
    inputs = [everything(base, text) for text in texts]
    scores = [reference(model, tokenizer, text) for text in texts]
    assert np.ptp(scores, axis=0).max() > 0.1, "the model says the same to everything"
    assert base.classify(inputs).tolist() == [int(row.argmax()) for row in scores]
    for key, row in zip(inputs, scores, strict=True):
        np.testing.assert_allclose(base.scores([key])[0], row, atol=1e-4)


@pytest.mark.parametrize("build", [wordpiece, byte_level_bpe, unigram])
@pytest.mark.parametrize("protected", ["first", "second"])
def test_pairs_keep_the_protected_side(build, protected):
    tokenizer = build()
    model = tiny_model("Bert", tokenizer)
    base = HuggingFaceClassifier(model, tokenizer, protected=protected)
    first, second = "the film is good and brilliant", "is it bad ?"
    noisy = base.open((first, second), WORD)
    rows = np.where(np.arange(noisy.law.n_units) % 2 == 0, np.arange(noisy.law.n_units), -1)[None]
    kept = (second if protected == "first" else first).split()[::2]
    texts = (first, " ".join(kept)) if protected == "first" else (" ".join(kept), second)
    np.testing.assert_allclose(
        base.scores(list(noisy.encode(rows)))[0], reference(model, tokenizer, *texts), atol=1e-5
    )


def test_one_classifier_takes_pairs_and_single_texts_in_turn():
    tokenizer = wordpiece()
    model = tiny_model("Bert", tokenizer)
    base = HuggingFaceClassifier(model, tokenizer)
    pair, single = ("the film", "is good"), "a bad story"
    keys = [everything(base, pair), everything(base, single)]
    scores = [reference(model, tokenizer, *pair), reference(model, tokenizer, single)]
    assert base.classify(keys).tolist() == [int(row.argmax()) for row in scores]


def test_truncation_comes_after_the_noise():
    tokenizer = wordpiece()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer, max_length=6)
    text = "film cast plot story good bad"
    opened = base.open(text, WORD)
    assert opened.law.n_units == 6
    (key,) = opened.encode(np.array([[-1, -1, 2, 3, 4, 5]]))
    expected = tokenizer("plot story good bad", truncation=True, max_length=6)["input_ids"]
    assert read([key])[0][0].tolist() == expected


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_truncation_side_of_the_tokenizer_is_kept(side):
    tokenizer = byte_level_bpe()
    tokenizer.truncation_side = side
    base = HuggingFaceClassifier(tiny_model("Roberta", tokenizer), tokenizer, max_length=7)
    text = "the film is a good film and the cast was brilliant"
    expected = tokenizer(text, truncation=True, max_length=7)["input_ids"]
    assert read([everything(base, text)])[0][0].tolist() == expected


def test_a_fixed_prefix_is_read_and_never_deleted():
    tokenizer = byte_level_bpe()
    model = tiny_model("Roberta", tokenizer)
    base = HuggingFaceClassifier(model, tokenizer, prefix="the review : ")
    opened = base.open("good film", WORD)
    keys = opened.encode(np.array([[-1, 1], [-1, -1]]))
    for key, text in zip(keys, ["the review : film", "the review :"], strict=True):
        assert read([key])[0][0].tolist() == tokenizer(text)["input_ids"]


def test_votes_do_not_depend_on_batches_even_at_near_ties():
    tokenizer = wordpiece()
    model = tiny_model("Bert", tokenizer)
    texts = [" ".join(["film", "good", "bad", "cast"][i % 4] for i in range(k)) for k in range(40)]
    with torch.no_grad():  # a head that differs by rounding only
        model.classifier.weight[1] = model.classifier.weight[0]
        model.classifier.bias.zero_()
    votes = {}
    for batch_tokens in (1, 100, 4096):
        base = HuggingFaceClassifier(model, tokenizer, batch_tokens=batch_tokens)
        votes[batch_tokens] = base.classify([everything(base, text) for text in texts]).tolist()
    backwards = base.classify([everything(base, text) for text in texts][::-1]).tolist()[::-1]
    assert votes[1] == votes[100] == votes[4096] == backwards


def test_dropout_is_off_and_training_mode_comes_back():
    tokenizer = wordpiece()
    model = tiny_model("Bert", tokenizer).train()
    base = HuggingFaceClassifier(model, tokenizer)
    keys = [everything(base, text) for text in TEXTS] * 5
    assert base.classify(keys).tolist() == base.classify(keys).tolist()
    assert model.training


def test_nan_logits_are_an_error_that_quotes_the_text():
    tokenizer = wordpiece()
    model = tiny_model("Bert", tokenizer)
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    base = HuggingFaceClassifier(model, tokenizer)
    with pytest.raises(ModelError, match=r"NaN or infinite.*for 1 of 1 noisy texts.*good film"):
        base.classify([everything(base, "good film")])


def test_one_label_is_refused():
    tokenizer = wordpiece()
    with pytest.raises(ModelError, match="num_labels=1"):
        HuggingFaceClassifier(tiny_model("Bert", tokenizer, num_labels=1), tokenizer)


def test_a_checkpoint_without_a_head_is_refused(tmp_path):
    tokenizer = wordpiece()
    tiny_model("Bert", tokenizer).bert.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no trained classification head: classifier"):
        HuggingFaceClassifier.from_pretrained(tmp_path)


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        HuggingFaceClassifier.from_pretrained(tmp_path / "nowhere")


def test_bfloat16_is_loaded_and_votes_the_same_in_every_batch(tmp_path):
    tokenizer = wordpiece()
    tiny_model("Bert", tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    votes = []
    for batch_tokens in (1, 4096):
        base = HuggingFaceClassifier.from_pretrained(
            tmp_path, dtype="bfloat16", batch_tokens=batch_tokens
        )
        assert base.model.dtype == torch.bfloat16
        votes.append(base.classify([everything(base, text) for text in TEXTS * 3]).tolist())
    assert votes[0] == votes[1]


@pytest.mark.parametrize("unit", ["character", "token"])
def test_units_below_words_are_read_as_they_are_joined(unit):
    tokenizer = byte_level_bpe()
    model = tiny_model("Roberta", tokenizer)
    base = HuggingFaceClassifier(model, tokenizer)
    mechanism = RandomizedDeletion(p_del=0.5, unit=unit)
    for text in TEXTS[:3]:
        key = everything(base, text, mechanism)
        assert read([key])[0][0].tolist() == tokenizer(text)["input_ids"]


def test_masks_are_the_mask_token():
    tokenizer = unigram()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer)
    opened = base.open("good film", RandomMasking(p_mask=0.5, mask="<mask>"))
    (key,) = opened.encode(np.array([[0, 2]]))
    expected = tokenizer("good <mask>")["input_ids"]
    assert read([key])[0][0].tolist() == expected


def test_models_of_roberta_s_kind_keep_room_for_shifted_positions():
    tokenizer = byte_level_bpe()
    tokenizer.model_max_length = 10**30
    base = HuggingFaceClassifier(tiny_model("Roberta", tokenizer), tokenizer)
    assert base.max_length == 80 - tokenizer.pad_token_id - 1
    base.classify([everything(base, "film " * 300)])


def test_transformers_is_a_supported_major():
    assert int(transformers.__version__.split(".")[0]) in (4, 5)
