"""Smoothed classifiers: certify, predict, save, load, and answer like a pipeline."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import byte_level_bpe, tiny_model, wordpiece

from robust_nlp import (
    AdaptiveDeletion,
    CallableClassifier,
    ExactPlan,
    FixedPlan,
    HuggingFaceClassifier,
    RandomizedDeletion,
    RandomMasking,
    SequentialPlan,
    SmoothedClassifier,
)
from robust_nlp.errors import DataError, ModelError
from robust_nlp.smoothing import load_smoothing, mechanism_from_dict, save_smoothing

PLAN = SequentialPlan(alpha=0.05, max_votes=300)
TEXTS = ["good film", "the plot is bad and the cast is poor , i think it was awful", "", "ok " * 30]


def keyword(texts):
    return [[text.count("bad") + 0.5, text.count("good")] for text in texts]


@pytest.fixture
def toy() -> SmoothedClassifier:
    base = CallableClassifier(keyword, ["bad", "good"])
    return SmoothedClassifier(base, RandomizedDeletion(p_del=0.7))


@pytest.fixture
def tiny() -> SmoothedClassifier:
    tokenizer = wordpiece()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer), tokenizer, max_length=32)
    return SmoothedClassifier(base, RandomizedDeletion(p_del=0.8))


def test_certificates_of_enumerated_texts_are_right(toy):
    (certificate,) = toy.certify(["good"], ExactPlan())
    assert certificate.predicted == 0  # the word is deleted more often than kept
    assert certificate.p_lower == pytest.approx(0.7)
    assert certificate.dead_zone
    (certificate,) = toy.certify(["good " * 12], ExactPlan())
    assert certificate.predicted == 1
    assert certificate.p_lower == pytest.approx(1 - 0.7**12)


def test_certificates_do_not_depend_on_the_company_of_a_text(tiny):
    together = tiny.certify(TEXTS, PLAN, seed=3)
    assert [tiny.certify([text], PLAN, seed=3)[0] for text in TEXTS] == together


@pytest.mark.parametrize(
    "mechanism",
    [
        RandomizedDeletion(p_del=0.8),
        AdaptiveDeletion(keeps=(3.0, 2.0), edges=(10,), p_min=0.5),
        RandomMasking(p_mask=0.6, mask="[MASK]"),
        RandomizedDeletion(p_del=0.9, unit="token"),
        RandomizedDeletion(p_del=0.95, unit="character"),
    ],
    ids=lambda m: f"{m.kind}-{m.unit}",
)
def test_a_saved_smoothed_classifier_comes_back_with_the_same_answers(mechanism, tmp_path):
    tokenizer = wordpiece()
    base = HuggingFaceClassifier(
        tiny_model("Bert", tokenizer), tokenizer, max_length=32, prefix="the film"
    )
    before = SmoothedClassifier(base, mechanism)
    before.save_pretrained(tmp_path)
    after = SmoothedClassifier.from_pretrained(tmp_path, device="cpu")
    assert after.mechanism == mechanism
    assert (after.base.max_length, after.base.prefix) == (32, "the film")
    assert after.labels == before.labels
    assert after.certify(TEXTS, PLAN) == before.certify(TEXTS, PLAN)


def test_it_answers_like_a_pipeline(toy):
    answers = toy(["good " * 12, "an even mix of good and bad words"], ExactPlan())
    assert answers[0]["label"] == "good"
    assert answers[0]["score"] == pytest.approx(1 - 0.7**12)
    assert answers[0]["certified_radius"] == 1
    assert not answers[0]["abstained"]
    assert toy("good " * 12, ExactPlan()) == answers[:1]


def test_it_abstains_where_votes_leave_a_doubt():
    coin = CallableClassifier(lambda texts: [[len(t) % 2, 0.5] for t in texts], ["a", "b"])
    smoothed = SmoothedClassifier(coin, RandomizedDeletion(p_del=0.5))
    text = "a " * 10 + "be " * 10
    assert smoothed.predict([text], FixedPlan(n_estimation=50)) == [None]
    (answer,) = smoothed(text, FixedPlan(n_estimation=50))
    assert answer["label"] is None
    assert answer["certified_radius"] is None
    assert answer["abstained"]


def test_prediction_needs_fewer_votes_than_certification(toy):
    text = ["good " * 60]
    few = toy.votes(text, SequentialPlan(max_votes=2_000, max_radius=0))[0].votes_asked
    many = toy.votes(text, SequentialPlan(max_votes=2_000))[0].votes_asked
    assert few < many
    assert toy.predict(text) == [1]


def test_vote_shares_are_frequencies(toy):
    shares = toy.vote_shares(["good " * 4, "bad"], 400, seed=1)
    assert shares.shape == (2, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert shares[0, 1] == pytest.approx(1 - 0.7**4, abs=0.08)
    assert shares[1, 0] == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "word",
        "x" * 50_000,
        "日本語 のテキスト です",
        "😀 👍🏽",
        "مرحبا بالعالم",
        "a\x00b \ud800",
    ],
    ids=["empty", "spaces", "one word", "50,000 characters", "Japanese", "emoji", "Arabic", "odd"],
)
def test_unusual_texts_get_an_answer(tiny, toy, text):
    (certificate,) = toy.certify([text], PLAN)
    assert certificate.n_units == len(text.split())
    if "\ud800" not in text:  # a lone surrogate is no text to a tokenizer
        assert tiny.certify([text], PLAN)[0].n_units == len(text.split())


def test_a_text_of_50_000_characters_of_words_gets_an_answer(tiny):
    (certificate,) = tiny.certify(["word " * 10_000], SequentialPlan(alpha=0.05, max_votes=32))
    assert certificate.n_units == 10_000


def test_a_single_string_in_place_of_a_list_is_an_error(toy):
    with pytest.raises(DataError, match="expected a list of texts; got one string"):
        toy.certify("good film")


def test_an_attacker_outside_the_mechanism_is_an_error(toy):
    masked = SmoothedClassifier(toy.base, RandomMasking(p_mask=0.5, mask="_"))
    assert masked.certify(["good film"], ExactPlan())[0].threat.attacker == {"substitute"}
    with pytest.raises(ValueError, match="certifies against substitute"):
        masked.certify(["good film"], ExactPlan(), attacker=frozenset({"delete"}))


def test_masking_takes_the_mask_token_of_the_tokenizer():
    tokenizer = byte_level_bpe()
    base = HuggingFaceClassifier(tiny_model("Roberta", tokenizer), tokenizer)
    assert SmoothedClassifier(base, RandomMasking(p_mask=0.5)).mechanism.mask == "<mask>"


def test_masking_without_any_mask_token_says_what_to_do(toy):
    with pytest.raises(ModelError, match='mask="_"'):
        SmoothedClassifier(toy.base, RandomMasking(p_mask=0.5))


def test_a_checkpoint_that_names_no_mechanism_asks_for_one(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    (tmp_path / "smoothing.json").unlink()
    with pytest.raises(ModelError, match=r"pass one, such as mechanism=RandomizedDeletion"):
        SmoothedClassifier.from_pretrained(tmp_path)


def test_a_broken_smoothing_file_is_an_error_that_names_it(tmp_path):
    save_smoothing(tmp_path, RandomizedDeletion(p_del=0.8), max_length=None)
    path = tmp_path / "smoothing.json"
    content = json.loads(path.read_text())
    content["mechanism"]["kind"] = "randomised_deletion"
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"smoothing.json.*Did you mean 'randomized_deletion'"):
        load_smoothing(tmp_path)


def test_mechanisms_survive_json():
    for mechanism in (
        RandomizedDeletion(p_del=0.8, unit="character"),
        AdaptiveDeletion(keeps=(3.0, 2.0), edges=(10,)),
        RandomMasking(p_mask=0.6),
    ):
        written = json.loads(json.dumps(mechanism.to_dict()))
        assert mechanism_from_dict(written) == mechanism


def test_only_hugging_face_classifiers_are_saved(toy, tmp_path):
    with pytest.raises(ModelError, match="can be saved"):
        toy.save_pretrained(tmp_path)


@pytest.mark.parametrize("text", [None, 3, ("one",), {"text": "a", "text_pair": "b"}, ("a", 1)])
def test_what_is_no_text_is_refused_with_its_position(toy, text):
    with pytest.raises(DataError, match="expected a text, or a pair of texts, at position 1"):
        toy.certify(["good", text])


def test_votes_that_choose_a_checkpoint_are_not_those_that_certify_it():
    seen: set[str] = set()

    def function(texts):
        seen.update(texts)
        return [[0.0, 1.0] for _ in texts]

    smoothed = SmoothedClassifier(
        CallableClassifier(function, ["a", "b"], batch_size=10_000), RandomizedDeletion(p_del=0.5)
    )
    text = " ".join(f"w{i}" for i in range(60))
    plan = FixedPlan(n_selection=1, n_estimation=100, enumerate_when_cheaper=False)
    smoothed.vote_shares([text], 100, seed=0)
    shares = seen.copy()
    seen.clear()
    smoothed.certify([text], plan, seed=0)
    assert len(shares & seen) <= 1


def test_the_precision_of_the_weights_is_saved(tmp_path):
    import torch

    tokenizer = wordpiece()
    model = tiny_model("Bert", tokenizer).to(torch.bfloat16)
    smoothed = SmoothedClassifier(
        HuggingFaceClassifier(model, tokenizer), RandomizedDeletion(p_del=0.8)
    )
    smoothed.save_pretrained(tmp_path)
    again = SmoothedClassifier.from_pretrained(tmp_path, device="cpu")
    assert again.base.model.dtype == torch.bfloat16


def test_attackers_may_be_given_by_name(toy):
    text = ["good " * 12]
    named = toy.certify(text, ExactPlan(), attacker="insert+delete")
    assert named == toy.certify(text, ExactPlan(), attacker={"delete", "insert"})
    with pytest.raises(ValueError, match="Did you mean 'insert'"):
        toy.certify(text, ExactPlan(), attacker="inserts")
