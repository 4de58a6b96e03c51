"""Metrics of `evaluate`, against counts by hand, and inside a Trainer."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest
from tiny import tiny_model, wordpiece

from robust_nlp.scoring import (
    AbstentionAwareAccuracy,
    AttackSuccessRate,
    CertifiedAccuracy,
    RobustnessScore,
    WorstGroupAccuracy,
    for_trainer,
)
from robust_nlp.scoring.estimates import difference

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
