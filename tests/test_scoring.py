"""Robustness scores of a classifier so simple that every number can be found by hand."""

from __future__ import annotations

import numpy as np
import pytest

from robust_nlp import (
    CallableClassifier,
    FixedPlan,
    HuggingFaceClassifier,
    RandomizedDeletion,
    SmoothedClassifier,
)
from robust_nlp.errors import DataError, ModelError
from robust_nlp.scoring import DeleteWords, RobustnessScores, Typos, measured, score
from robust_nlp.scoring.answers import answers_of
from robust_nlp.scoring.rows import score_rows
from robust_nlp.scoring.wording import markdown, terminal

TEXTS = ["good film", "good good film plot", "bad film", "a plot", "bad cast bad good"]
LABELS = [1, 1, 0, 1, 0]


def keywords(texts):
    """Positive if there are more good words than bad ones."""
    sums = [text.split().count("good") - text.split().count("bad") for text in texts]
    return np.array([[0.5, float(s)] for s in sums])


def words_left(texts):
    """Answers with the number of words, up to 4."""
    return np.eye(5)[[min(4, len(text.split())) for text in texts]]


#: Half of the words go, the most important first: "film"; "film plot"; "film"; "plot" or "a";
#: "cast good" (the label is negative, so that the two "bad" count most). What is left is answered
#: 0, 0, 0, 0, and 1. Without deletion: 1, 1, 0, 0 and 0, of which the fourth is wrong.
MOST = DeleteWords(order="most_important", rates=(0.5,))

#: The least important half goes: "good", "good good", "bad", one of two, "bad bad".
LEAST = DeleteWords(order="least_important", rates=(0.5,))


def check_by_hand() -> None:
    facts = score(keywords, TEXTS, LABELS, [MOST, LEAST]).to_dict()
    assert facts["clean"]["classifier"]["accuracy"]["value"] == pytest.approx(4 / 5)
    most, least = facts["scores"]
    (point,) = most["points"]
    assert point["accuracy"]["value"] == pytest.approx(1 / 5)
    assert point["score"]["value"] == pytest.approx(3 / 5)
    assert point["score"]["low"] > -0.1
    assert point["p_value"] == pytest.approx(2 * 0.5**3)  # three lost, none won
    assert point["attack_success"] == pytest.approx(3 / 4)
    assert least["points"][0]["score"]["value"] == pytest.approx(0.0)
    assert most["area"]["value"] == pytest.approx((4 / 5 + 1 / 5) / 2)
    assert most["mean_score"]["value"] == pytest.approx(4 / 5 - (4 / 5 + 1 / 5) / 2)


def test_scores_are_those_found_by_hand():
    check_by_hand()


def score_with_the_wrong_sign(monkeypatch):
    right = measured.difference
    monkeypatch.setattr(measured, "difference", lambda x, y, **kwargs: right(y, x, **kwargs))


def perturbed_accuracy_in_place_of_the_clean_one(monkeypatch):
    right = measured.difference
    monkeypatch.setattr(measured, "difference", lambda x, y, **kwargs: right(y, y, **kwargs))


def least_important_words_first(monkeypatch):
    perturb = DeleteWords.perturb

    def swapped(self, text, rate, rng, importance=None):
        return perturb(self, text, rate, rng, None if importance is None else -importance)

    monkeypatch.setattr(DeleteWords, "perturb", swapped)


def area_without_the_clean_text(monkeypatch):
    area = measured.area

    def without(clean, curve):
        return area(next(iter(curve.values())), curve)

    monkeypatch.setattr("robust_nlp.scoring.tables.area", without)


@pytest.mark.parametrize(
    "mutant",
    [
        score_with_the_wrong_sign,
        perturbed_accuracy_in_place_of_the_clean_one,
        least_important_words_first,
        area_without_the_clean_text,
    ],
)
def test_wrong_scores_are_caught(mutant, monkeypatch):
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        check_by_hand()


def row(example, perturbation, draw, predicted, label=1, **values):
    rate = 0.0 if perturbation == "clean" else values.pop("rate", 0.5)
    return {
        "example_id": example,
        "text_hash": str(example),
        "classifier": "one",
        "perturbation": perturbation,
        "rate": rate,
        "draw": draw,
        "text": "x",
        "n_words": values.pop("n_words", 4),
        "edits": 1,
        "label": label,
        "predicted": predicted,
        "right": predicted == label,
        **values,
    }


#: Four texts of class 1 and two versions of each. The answers: clean, then both versions.
ANSWERS = [(1, 1, 0), (1, None, 1), (None, 1, 1), (1, None, None)]


def check_abstentions() -> None:
    rows = [
        row(i, name, draw, answers[j])
        for i, answers in enumerate(ANSWERS)
        for j, (name, draw) in enumerate([("clean", 0), ("typos", 0), ("typos", 1)])
    ]
    scores = RobustnessScores.from_rows(rows)
    facts = scores.to_dict()
    clean = facts["clean"]["one"]
    assert clean["accuracy"]["value"] == pytest.approx(3 / 4)
    assert clean["abstained"] == pytest.approx(1 / 4)
    assert clean["answered_only"]["value"] == pytest.approx(1.0)
    point = facts["scores"][0]["points"][0]
    # Abstentions wrong: 1/2, 1/2, 1, 0 of the versions are right.
    assert point["accuracy"]["value"] == pytest.approx(2 / 4)
    assert point["score"]["value"] == pytest.approx(1 / 4)
    assert point["abstained"] == pytest.approx(3 / 8)
    # Left out: the third text, which has no clean answer, and the fourth, which has no other.
    only = point["answered_only"]
    assert only["texts"] == 2
    assert only["accuracy"]["value"] == pytest.approx((1 / 2 + 1) / 2)
    assert only["score"]["value"] == pytest.approx(1.0 - 3 / 4)
    assert "| typos | 0.5 | one | 2 |" in markdown(facts)


def test_abstentions_are_wrong_in_one_account_and_left_out_in_the_other():
    check_abstentions()


def test_abstentions_counted_as_right_are_caught(monkeypatch):
    generous = property(lambda cell: (cell.right | ~cell.answered).mean(axis=1))
    monkeypatch.setattr(measured.Cell, "shares", generous)
    with pytest.raises(AssertionError):
        check_abstentions()


def test_areas_are_those_of_the_trapezoidal_rule():
    rates = {0.2: (1, 1), 0.4: (1, 0), 0.8: (0, 0)}
    rows = [row(0, "clean", 0, 1)]
    rows += [row(0, "typos", d, a[d], rate=rate) for rate, a in rates.items() for d in (0, 1)]
    (curve,) = RobustnessScores.from_rows(rows).to_dict()["scores"]
    expected = (0.2 * 1.0 + 0.2 * (1.0 + 0.5) / 2 + 0.4 * (0.5 + 0.0) / 2) / 0.8
    assert curve["area"]["value"] == pytest.approx(expected)
    assert curve["largest_rate"] == 0.8


def test_groups_are_quarters_of_the_lengths_and_classes():
    rows = []
    for i in range(8):
        lost = i < 4  # all of the short texts are lost
        rows.append(row(i, "clean", 0, i % 2, label=i % 2, n_words=i + 1))
        rows.append(row(i, "typos", 0, 1 - i % 2 if lost else i % 2, label=i % 2, n_words=i + 1))
    (curve,) = RobustnessScores.from_rows(rows, ["no", "yes"]).to_dict()["scores"]
    lengths = [(g["shortest"], g["longest"], g["texts"]) for g in curve["lengths"]]
    assert lengths == [(1, 2, 2), (3, 4, 2), (5, 6, 2), (7, 8, 2)]
    assert [g["points"][0]["score"]["value"] for g in curve["lengths"]] == [1.0, 1.0, 0.0, 0.0]
    assert [g["class"] for g in curve["classes"]] == ["no", "yes"]
    assert [g["points"][0]["score"]["value"] for g in curve["classes"]] == [0.5, 0.5]


def test_classifiers_are_compared_on_the_same_versions():
    seen: dict[str, list[str]] = {"one": [], "other": []}

    def remember(name, function):
        def classify(texts):
            seen[name] += texts
            return function(texts)

        return classify

    constant = remember("other", lambda texts: np.tile([0.0, 1.0], (len(texts), 1)))
    found = score(
        {"one": remember("one", keywords), "other": constant},
        TEXTS,
        LABELS,
        [DeleteWords(rates=(0.5,), draws=2)],
    )
    assert seen["one"] == seen["other"]
    facts = found.to_dict()
    one, other = (c["points"][0] for c in facts["scores"])
    clean, both, areas = facts["comparisons"]
    assert clean["accuracy"]["value"] == pytest.approx(4 / 5 - 3 / 5)
    assert both["accuracy"]["value"] == pytest.approx(
        one["accuracy"]["value"] - other["accuracy"]["value"]
    )
    assert both["score"]["value"] == pytest.approx(one["score"]["value"])
    assert other["score"]["value"] == 0.0
    assert areas["area"]["value"] == pytest.approx(
        facts["scores"][0]["area"]["value"] - facts["scores"][1]["area"]["value"]
    )
    assert "one − other" in markdown(facts)
    assert "delete_words[random]" in terminal(facts)


def test_equal_versions_are_classified_once():
    asked = []

    def classify(texts):
        asked.extend(texts)
        return keywords(texts)

    score(classify, [*TEXTS, TEXTS[0]], [*LABELS, 1], [DeleteWords(draws=4), Typos()])
    assert len(asked) == len(set(asked))


def test_versions_and_answers_do_not_depend_on_the_texts_beside_them():
    deletions = [DeleteWords(draws=2), MOST, LEAST, Typos()]
    named = {"one": keywords}
    whole = score_rows(named, TEXTS, LABELS, deletions, seed=5)
    parts = [
        row
        for i in range(len(TEXTS))
        for row in score_rows(named, [TEXTS[i]], [LABELS[i]], deletions, seed=5, first_id=i)
    ]
    assert whole == parts
    assert whole != score_rows(named, TEXTS, LABELS, deletions, seed=6)


def test_smoothed_classifiers_answer_by_votes_and_plain_ones_as_they_are():
    base = CallableClassifier(keywords, ["negative", "positive"])
    smoothed = SmoothedClassifier(base, RandomizedDeletion(p_del=0.5))
    texts = [*TEXTS, "", "good bad good bad"]
    labels = [*LABELS, 0, 0]
    plan = FixedPlan(n_selection=20, n_estimation=60, alpha=0.01)
    found = score(
        {"smoothed": smoothed, "plain": base}, texts, labels, [DeleteWords()], plan=plan, seed=2
    )
    by_votes, plain = found.measured
    expected = smoothed.predict(texts, plan, seed=2)
    right = [answer == label for answer, label in zip(expected, labels, strict=True)]
    assert by_votes.clean.right[:, 0].tolist() == right
    assert by_votes.clean.answered[:, 0].tolist() == [answer is not None for answer in expected]
    direct = keywords(texts).argmax(axis=1)
    assert plain.clean.right[:, 0].tolist() == (direct == labels).tolist()
    assert plain.clean.answered.all()
    empty = plain.curves["delete_words[random]"][0.9].empty[:, 0]
    # Nine tenths of up to five words, rounded, are all of them, and of none nothing.
    assert empty.tolist() == [len(text.split()) < 5 for text in texts]


def test_hugging_face_models_read_every_text_even_the_empty_one(tiny_classifier_dir, tiny_texts):
    base = HuggingFaceClassifier.from_pretrained(tiny_classifier_dir, device="cpu")
    found = answers_of(base)(list(tiny_texts))
    expected = []
    import torch

    for text in tiny_texts:
        encoded = base.tokenizer(text, return_tensors="pt", truncation=True)
        with torch.no_grad():
            expected.append(int(base.model(**encoded).logits.argmax()))
    assert found == expected
    assert len(set(found)) == 2


def test_wrong_input_is_named():
    with pytest.raises(DataError, match="one label a text; got 5 texts and 1 labels"):
        score(keywords, TEXTS, [1])
    with pytest.raises(DataError, match="the same name"):
        score(keywords, TEXTS, LABELS, [Typos(), Typos(draws=1)])
    with pytest.raises(ModelError, match="one row of finite scores"):
        score(lambda texts: np.zeros(3), TEXTS, LABELS, [Typos()])
    with pytest.raises(DataError, match="no rows to score"):
        RobustnessScores.from_rows([])
    with pytest.raises(ValueError, match="not those of all 2 texts"):
        RobustnessScores.from_rows(
            [row(0, "clean", 0, 1), row(1, "clean", 0, 1), row(0, "typos", 0, 1)]
        )


def test_only_the_same_texts_are_compared():
    rows = [row(0, "clean", 0, 1), row(0, "typos", 0, 1)]
    other = [{**each, "classifier": "two", "text_hash": "other"} for each in rows]
    with pytest.raises(DataError, match="one and two did not answer for the same texts"):
        RobustnessScores.from_rows([*rows, *other])
