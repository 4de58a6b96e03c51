"""Metrics of `evaluate`, against counts by hand, and inside a Trainer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from tiny import tiny_model, wordpiece

from robust_nlp import FixedPlan, HuggingFaceClassifier, RandomizedDeletion, SmoothedClassifier
from robust_nlp.certification import certified_accuracy
from robust_nlp.errors import DataError
from robust_nlp.scoring import (
    AbstentionAwareAccuracy,
    AttackSuccessRate,
    CertifiedAccuracy,
    RobustnessScore,
    WorstGroupAccuracy,
    for_trainer,
)
from robust_nlp.scoring.estimates import difference
from robust_nlp.scoring.metrics import certified_for_trainer


def accuracy_score(labels, answers, sample_weight=None):
    """As in scikit-learn."""
    weights = np.ones(len(labels)) if sample_weight is None else np.array(sample_weight, float)
    return float(np.average(np.equal(labels, answers), weights=weights))


LABELS = [0, 1, 1, 0, 1]
CLEAN = [0, 1, 1, 0, 0]
AFTER = [0, 0, None, 0, 1]


def test_the_robustness_score_pairs_clean_and_perturbed_answers():
    found = RobustnessScore().compute(predictions=AFTER, references=LABELS, clean_predictions=CLEAN)
    assert found["robustness_score"] == pytest.approx(4 / 5 - 3 / 5)
    assert (found["clean_accuracy"], found["accuracy"]) == (4 / 5, 3 / 5)
    expected = difference([1, 1, 1, 1, 0], [1, 0, 0, 1, 1])
    assert found["robustness_score_low"] == pytest.approx(expected.low)
    assert found["robustness_score_high"] == pytest.approx(expected.high)


def test_certified_accuracy_needs_a_right_answer_and_the_radius():
    found = CertifiedAccuracy().compute(
        predictions=AFTER, references=LABELS, certified_radii=[2, 5, None, 0, 1], radii=(0, 1, 2, 3)
    )
    shares = [found[f"certified_accuracy_at_{radius}"] for radius in range(4)]
    assert shares == [3 / 5, 2 / 5, 1 / 5, 0.0]
    expected = binomtest(2, 5).proportion_ci(0.95, method="wilson")
    assert found["certified_accuracy_at_1_high"] == pytest.approx(expected.high)


def test_abstentions_are_counted_both_ways():
    found = AbstentionAwareAccuracy().compute(predictions=AFTER, references=LABELS)
    assert found["accuracy"] == 3 / 5
    assert found["accuracy_of_answers"] == 3 / 4
    assert found["abstention_rate"] == pytest.approx(1 / 5)
    none = AbstentionAwareAccuracy().compute(predictions=[None, None], references=[0, 1])
    assert none["accuracy"] == 0.0
    assert none["accuracy_of_answers"] is None


def test_attacks_succeed_on_right_answers_only():
    found = AttackSuccessRate().compute(
        predictions=AFTER, references=LABELS, clean_predictions=CLEAN
    )
    assert found["attack_success_rate"] == 2 / 4
    assert found["robust_accuracy"] == 2 / 5  # the fifth text was wrong before
    none = AttackSuccessRate().compute(
        predictions=[1, 1], references=[1, 1], clean_predictions=[0, 0]
    )
    assert none["attack_success_rate"] is None


def test_the_worst_group_is_the_one_with_the_lowest_accuracy():
    found = WorstGroupAccuracy().compute(
        predictions=AFTER, references=LABELS, groups=["a", "b", "b", "a", "b"]
    )
    assert found["worst_group"] == "b"
    assert found["worst_group_accuracy"] == pytest.approx(1 / 3)
    assert found["average_group_accuracy"] == pytest.approx((1 + 1 / 3) / 2)
    assert found["accuracy"] == 3 / 5


def test_metrics_take_batches():
    metric = WorstGroupAccuracy()
    metric.add_batch(predictions=[0, 1], references=[0, 0], groups=["a", "b"])
    metric.add_batch(predictions=[1], references=[1], groups=["b"])
    assert metric.compute()["worst_group_accuracy"] == 0.5


def test_metrics_work_in_a_trainer(tmp_path):
    import torch
    from transformers import Trainer, TrainingArguments

    tokenizer = wordpiece()
    model = tiny_model("Bert", tokenizer)
    texts = ["a good film", "a bad story", "the cast was brilliant", "it is awful"]
    labels, groups = [1, 0, 1, 0], ["film", "story", "film", "story"]
    encoded = tokenizer(texts, padding=True)
    rows = [{**{name: encoded[name][i] for name in encoded}, "labels": labels[i]} for i in range(4)]
    trainer = Trainer(
        model,
        TrainingArguments(str(tmp_path), report_to="none", use_cpu=True),
        eval_dataset=rows,
        compute_metrics=for_trainer(WorstGroupAccuracy(), groups=groups),
    )
    found = trainer.evaluate()
    with torch.no_grad():
        logits = model(**{name: torch.tensor(encoded[name]) for name in encoded}).logits
    right = [int(a == b) for a, b in zip(logits.argmax(dim=-1).tolist(), labels, strict=True)]
    expected = min((right[0] + right[2]) / 2, (right[1] + right[3]) / 2)
    assert found["eval_worst_group_accuracy"] == expected
    assert "eval_worst_group" not in found
    score = for_trainer(RobustnessScore(), clean_predictions=labels)
    trainer.compute_metrics = score
    assert trainer.evaluate()["eval_robustness_score"] == pytest.approx(1 - sum(right) / 4)


def test_random_answers_give_what_others_compute():
    rng = np.random.default_rng(0)
    labels, clean, after = rng.integers(3, size=(3, 200)).tolist()
    groups = rng.choice(["a", "b", "c"], size=200).tolist()
    radii = rng.integers(5, size=200).tolist()
    both = {"predictions": after, "references": labels}
    score = RobustnessScore().compute(**both, clean_predictions=clean)
    expected = accuracy_score(labels, clean) - accuracy_score(labels, after)
    assert score["robustness_score"] == pytest.approx(expected)
    attacked = AttackSuccessRate().compute(**both, clean_predictions=clean)
    kept = [a for a, b, c in zip(after, clean, labels, strict=True) if b == c]
    truth = [c for b, c in zip(clean, labels, strict=True) if b == c]
    assert attacked["attack_success_rate"] == pytest.approx(1 - accuracy_score(truth, kept))
    assert attacked["attack_success_rate"] != pytest.approx(1 - accuracy_score(labels, after))
    worst = WorstGroupAccuracy().compute(**both, groups=groups)
    shares = [
        accuracy_score(labels, after, sample_weight=[each == name for each in groups])
        for name in "abc"
    ]
    assert worst["worst_group_accuracy"] == pytest.approx(min(shares))
    far = CertifiedAccuracy().compute(**both, certified_radii=radii, radii=(2,))
    mask = [radius >= 2 for radius in radii]
    counted = accuracy_score(labels, after, sample_weight=mask) * np.mean(mask)
    assert far["certified_accuracy_at_2"] == pytest.approx(counted)


def test_texts_of_no_group_count_in_accuracy_alone():
    found = WorstGroupAccuracy().compute(
        predictions=[0, 1, 0], references=[0, 0, 1], groups=["a", "a", ""]
    )
    assert (found["worst_group_accuracy"], found["accuracy"]) == (0.5, pytest.approx(1 / 3))
    with pytest.raises(DataError, match="name of its group"):
        WorstGroupAccuracy().compute(predictions=[0], references=[0], groups=[""])


def test_groups_may_be_numbers_or_missing_and_radii_of_numpy():
    found = WorstGroupAccuracy().compute(
        predictions=[0, 1, 0, 0], references=[0, 0, 1, 0], groups=[3, 3, None, 0]
    )
    assert (found["worst_group"], found["worst_group_accuracy"]) == ("3", 0.5)
    assert found["accuracy"] == 0.5
    far = CertifiedAccuracy().compute(
        predictions=[0, 1], references=[0, 1], certified_radii=[2, 0], radii=np.arange(3)
    )
    shares = {k: v for k, v in far.items() if not k.endswith(("low", "high"))}
    assert shares == {f"certified_accuracy_at_{r}": v for r, v in ((0, 1.0), (1, 0.5), (2, 0.5))}


def test_no_texts_and_odd_radii_are_errors():
    with pytest.raises(DataError, match="one text at least"):
        AbstentionAwareAccuracy().compute(predictions=[], references=[])
    for radius in (-1, 0.5):
        with pytest.raises(ValueError, match="whole numbers from 0"):
            CertifiedAccuracy().compute(
                predictions=[0], references=[0], certified_radii=[1], radii=(radius,)
            )


def test_a_trainer_certifies_at_each_evaluation(tmp_path):
    import torch
    from transformers import Trainer, TrainingArguments

    tokenizer = wordpiece()
    model = tiny_model("Bert", tokenizer)
    texts, labels = ["a good film", "a bad story", "the cast was brilliant"], [1, 0, 1]
    encoded = tokenizer(texts, padding=True)
    rows = [{**{name: encoded[name][i] for name in encoded}, "labels": labels[i]} for i in range(3)]
    smoothed = SmoothedClassifier(
        HuggingFaceClassifier(model, tokenizer), RandomizedDeletion(p_del=0.5)
    )
    plan = FixedPlan(alpha=0.05, n_estimation=60)
    trainer = Trainer(
        model,
        TrainingArguments(str(tmp_path), report_to="none", use_cpu=True),
        eval_dataset=rows,
        compute_metrics=certified_for_trainer(smoothed, texts, plan, seed=1),
    )
    before = trainer.evaluate()
    certificates = smoothed.certify(texts, plan, seed=1)
    expected = certified_accuracy(certificates, labels, [0, 1, 2, 4])
    assert [before[f"eval_certified_accuracy_at_{r}"] for r in (0, 1, 2, 4)] == list(
        expected.values()
    )
    assert before["eval_abstention_rate"] == sum(c.abstains for c in certificates) / 3
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([1.0, 0.0]))
    after = trainer.evaluate()
    assert after["eval_certified_accuracy_at_0"] == pytest.approx(1 / 3)  # one text of class 0
    asked = iter([[0, 0, 0], [1, 0, 1]])
    trainer.compute_metrics = for_trainer(
        RobustnessScore(), predictions=lambda: next(asked), clean_predictions=labels
    )
    assert trainer.evaluate()["eval_robustness_score"] == pytest.approx(2 / 3)
    assert math.isclose(trainer.evaluate()["eval_robustness_score"], 0.0)
