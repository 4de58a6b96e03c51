"""Smoothed classifiers as pipelines: lists as those of transformers, and no label in doubt."""

from __future__ import annotations

import evaluate
import pytest
import transformers
from datasets import Dataset
from tiny import tiny_model, wordpiece

from robust_nlp import (
    CallableClassifier,
    ExactPlan,
    FixedPlan,
    HuggingFaceClassifier,
    RandomizedDeletion,
    RandomMasking,
    SequentialPlan,
    SmoothedClassifier,
)
from robust_nlp.certification import VoteCounts
from robust_nlp.errors import DataError
from robust_nlp.evaluating import SmoothedEvaluator
from robust_nlp.scoring import AbstentionAwareAccuracy
from robust_nlp.smoothed_pipeline import SmoothedPipeline, vote_shares

PLAN = FixedPlan(alpha=0.05, n_selection=20, n_estimation=80)
TEXT = "the plot is bad and the cast is poor"
PAIR = {"text": "a good film", "text_pair": "it was good"}


@pytest.fixture(scope="module")
def smoothed() -> SmoothedClassifier:
    tokenizer = wordpiece()
    base = HuggingFaceClassifier(tiny_model("Bert", tokenizer, num_labels=3), tokenizer)
    return SmoothedClassifier(base, RandomizedDeletion(p_del=0.5))


@pytest.fixture(scope="module")
def plain(smoothed) -> transformers.Pipeline:
    return transformers.pipeline(
        "text-classification",
        model=smoothed.base.model,
        tokenizer=smoothed.base.tokenizer,
        device="cpu",
    )


def toy(p_del: float = 0.7) -> SmoothedClassifier:
    def scores(texts):
        return [[0.5, float("good" in text)] for text in texts]

    return SmoothedClassifier(
        CallableClassifier(scores, ["bad", "good"]), RandomizedDeletion(p_del=p_del)
    )


def coin() -> SmoothedClassifier:
    base = CallableClassifier(lambda texts: [[len(t) % 2, 0.5] for t in texts], ["a", "b"])
    return SmoothedClassifier(base, RandomizedDeletion(p_del=0.5))


DOUBTFUL = "a " * 10 + "be " * 10


def nesting(answer):
    """Keep lists and which entries dicts have, and forget values."""
    if isinstance(answer, list):
        return [nesting(each) for each in answer]
    return sorted(answer)


@pytest.mark.parametrize("settings", [{}, {"top_k": 1}, {"top_k": 2}, {"top_k": None}], ids=str)
@pytest.mark.parametrize(
    "inputs", [TEXT, [TEXT], [TEXT, "good"], PAIR, [PAIR, {"text": "good"}]], ids=range(5)
)
def test_answers_are_nested_as_in_transformers(smoothed, plain, inputs, settings):
    pipe = smoothed.as_pipeline(plan=PLAN, abstain=False)
    assert nesting(pipe(inputs, **settings)) == nesting(plain(inputs, **settings))


def test_scores_are_shares_of_votes_that_add_up_to_one(smoothed):
    pipe = smoothed.as_pipeline(plan=PLAN)
    (ranking,) = pipe([TEXT], top_k=None)
    shares = {each["label"]: each["score"] for each in ranking if each["label"] is not None}
    assert sum(shares.values()) == pytest.approx(1.0)
    (record,) = smoothed.votes([TEXT], PLAN)
    counts = record.votes.looks[-1]
    assert [shares[label] for label in smoothed.labels] == [count / 80 for count in counts]


def test_the_score_of_an_enumerated_text_is_its_probability():
    ranking = toy().as_pipeline(plan=ExactPlan())("good " * 3, top_k=None)
    assert ranking == [
        {"label": "good", "score": pytest.approx(1 - 0.7**3)},
        {"label": "bad", "score": pytest.approx(0.7**3)},
    ]


def test_shares_mix_enumerated_and_drawn_noisy_texts():
    votes = VoteCounts(
        n_units=4,
        exact=(0.1, 0.3),
        remainder=0.6,
        selection=(9, 1),
        looks=((1, 3),),
        schedule=(4,),
    )
    assert vote_shares(votes) == pytest.approx([0.1 + 0.6 / 4, 0.3 + 0.6 * 3 / 4])
    decided = VoteCounts(n_units=4, exact=(0.1, 0.7), remainder=0.2, selection=(3, 1))
    assert vote_shares(decided) == pytest.approx([0.1 + 0.15, 0.7 + 0.05])
    alone = VoteCounts(n_units=4, exact=(0.2, 0.6), remainder=0.2, selection=(0, 0))
    assert vote_shares(alone) == pytest.approx([0.25, 0.75])


def test_in_doubt_the_answer_has_no_label():
    pipe = coin().as_pipeline(plan=FixedPlan(n_estimation=50))
    (answer,) = pipe(DOUBTFUL)
    assert answer["label"] is None
    ranking = pipe(DOUBTFUL, top_k=None)
    assert ranking[0]["label"] is None
    assert {each["label"] for each in ranking[1:]} == {"a", "b"}
    assert ranking[0]["score"] == ranking[1]["score"] >= ranking[2]["score"]
    assert pipe(DOUBTFUL, top_k=1) == [answer]
    (forced,) = coin().as_pipeline(plan=FixedPlan(n_estimation=50), abstain=False)(
        DOUBTFUL, certify=True
    )
    assert forced["label"] in {"a", "b"}
    assert forced["radius"] is None


def test_certificates_are_those_of_the_classifier(smoothed):
    plan, texts = SequentialPlan(alpha=0.05, max_votes=300), [TEXT, "good " * 20]
    pipe = smoothed.as_pipeline(plan=plan, seed=3, attacker="insert", certify=True)
    expected = smoothed.certify(texts, plan, seed=3, attacker="insert")
    for answer, certificate in zip(pipe(texts), expected, strict=True):
        assert answer["label"] == (
            None if certificate.abstains else smoothed.labels[certificate.predicted]
        )
        assert (answer["radius"], answer["p_lower"]) == (certificate.radius, certificate.p_lower)
        assert (answer["attacker"], answer["unit"]) == ("insert", "word")
        assert answer["alpha"] == certificate.alpha
        assert (answer["dead_zone"], answer["vacuous"]) == (certificate.dead_zone, False)
    first, second = pipe(TEXT, top_k=2, certify=True)
    assert "radius" in first
    assert "radius" not in second
    assert "radius" not in pipe(TEXT, certify=False)[0]


def test_answers_depend_on_text_and_seed_alone(smoothed):
    pipe = smoothed.as_pipeline(plan=PLAN, seed=5)
    together = pipe([TEXT, "good film", TEXT])
    assert together == [pipe(TEXT)[0], pipe("good film")[0], pipe(TEXT)[0]]
    assert smoothed.as_pipeline(plan=PLAN, seed=5)(TEXT) == pipe(TEXT)
    other = smoothed.as_pipeline(plan=PLAN, seed=6)
    assert [each["score"] for each in other([TEXT], top_k=None)[0]] != [
        each["score"] for each in pipe([TEXT], top_k=None)[0]
    ]


def test_pairs_and_rows_of_data_sets_are_texts(smoothed):
    pipe = smoothed.as_pipeline(plan=PLAN)
    pair = (PAIR["text"], PAIR["text_pair"])
    expected = pipe([pair, "good"], certify=True)
    assert pipe([PAIR, {"text": "good", "text_pair": None}], certify=True) == expected
    assert pipe(PAIR, certify=True) == expected[0]
    rows = Dataset.from_dict(
        {"text": [pair[0], "good"], "text_pair": [pair[1], None], "label": [0, 1]}
    )
    assert pipe(rows, certify=True) == expected
    assert pipe(each for each in [pair, "good"])[1]["label"] == expected[1]["label"]
    assert pipe([]) == []


@pytest.mark.parametrize(
    "given",
    [3, [3], ["good", None], {"text": "a", "pair": "b"}, [{"label": 1}], [["a", "b"]], ("a",)],
    ids=str,
)
def test_what_is_no_text_is_refused(smoothed, given):
    with pytest.raises(DataError, match="expected a text"):
        smoothed.as_pipeline(plan=PLAN)(given)


def test_settings_out_of_range_are_refused(smoothed):
    pipe = smoothed.as_pipeline(plan=PLAN)
    with pytest.raises(ValueError, match="top_k"):
        pipe(TEXT, top_k=0)
    with pytest.raises(ValueError, match="always truncated"):
        pipe(TEXT, truncation=False)
    masked = SmoothedClassifier(smoothed.base, RandomMasking(p_mask=0.5))
    with pytest.raises(ValueError, match="certifies against substitute"):
        masked.as_pipeline(attacker="insert")


def rows_of(smoothed: SmoothedClassifier) -> Dataset:
    texts = ["good " * 12, "bad", DOUBTFUL, "good bad " * 5]
    return Dataset.from_dict({"text": texts, "label": [1, 0, 1, 0]})


@pytest.mark.parametrize("own", [True, False], ids=["ours", "that of evaluate"])
def test_an_evaluator_takes_the_pipeline(own):
    if not own and not hasattr(transformers, "TFPreTrainedModel"):
        pytest.skip("this evaluate does not know this transformers")
    classifier, data = toy(), rows_of(toy())
    pipe = classifier.as_pipeline(plan=PLAN)
    evaluator = SmoothedEvaluator() if own else evaluate.evaluator("text-classification")
    found = evaluator.compute(
        pipe, data, metric=AbstentionAwareAccuracy(), label_mapping=pipe.label_mapping
    )
    predicted = classifier.predict(data["text"], PLAN)
    right = sum(a == b for a, b in zip(predicted, [1, 0, 1, 0], strict=True))
    assert found["accuracy"] == right / 4
    assert found["abstention_rate"] == sum(a is None for a in predicted) / 4


def test_the_evaluator_takes_pairs_and_refuses_other_tasks(smoothed):
    pipe = smoothed.as_pipeline(plan=PLAN, abstain=False)
    data = Dataset.from_dict({"a": ["good film"], "b": ["it was good"], "label": [0]})
    found = SmoothedEvaluator().compute(
        pipe,
        data,
        metric=AbstentionAwareAccuracy(),
        input_column="a",
        second_input_column="b",
        label_mapping=pipe.label_mapping,
    )
    (answer,) = pipe([{"text": "good film", "text_pair": "it was good"}])
    assert found["accuracy"] == float(pipe.label_mapping[answer["label"]] == 0)
    assert isinstance(pipe, SmoothedPipeline)
    assert (pipe.model, pipe.tokenizer) == (smoothed.base.model, smoothed.base.tokenizer)
    assert toy().as_pipeline().model is None
