"""What one answer counts in each measure, and the measures of a run."""

from __future__ import annotations

from typing import Any

import pytest

from robust_nlp.study.values import run_measures, text_values


def answer(**entries) -> dict[str, Any]:
    return {
        "row": 0,
        "domain": "air",
        "held_out": True,
        "label": 1,
        "answer": 1,
        "deleted_answers": [],
        "certified": False,
        "smoothed_answer": None,
        "radius": None,
        "attack": None,
        **entries,
    }


@pytest.mark.parametrize(
    ("entries", "values"),
    [
        ({}, {"accuracy": 1.0}),
        ({"answer": 0}, {"accuracy": 0.0}),
        (
            {"deleted_answers": [1, 0, 1, 1]},
            {"accuracy": 1.0, "deleted_accuracy": 0.75, "robustness_score": 0.25},
        ),
        (
            {"answer": 0, "deleted_answers": [1, 0]},
            {"accuracy": 0.0, "deleted_accuracy": 0.5, "robustness_score": -0.5},
        ),
        (
            {"certified": True, "smoothed_answer": 1, "radius": 1},
            {"accuracy": 1.0, "certified_accuracy_0": 1.0, "certified_accuracy_2": 0.0},
        ),
        (
            {"certified": True, "smoothed_answer": 1, "radius": 2},
            {"accuracy": 1.0, "certified_accuracy_0": 1.0, "certified_accuracy_2": 1.0},
        ),
        (
            {"certified": True, "smoothed_answer": 0, "radius": 5},
            {"accuracy": 1.0, "certified_accuracy_0": 0.0, "certified_accuracy_2": 0.0},
        ),
        (
            {"certified": True},
            {"accuracy": 1.0, "certified_accuracy_0": 0.0, "certified_accuracy_2": 0.0},
        ),
        ({"attack": "failed"}, {"accuracy": 1.0, "attacked_accuracy": 1.0}),
        ({"attack": "error"}, {"accuracy": 1.0, "attacked_accuracy": 1.0}),
        ({"attack": "success"}, {"accuracy": 1.0, "attacked_accuracy": 0.0}),
        ({"answer": 0, "attack": "skipped"}, {"accuracy": 0.0, "attacked_accuracy": 0.0}),
        ({"answer": 0, "attack": "error"}, {"accuracy": 0.0, "attacked_accuracy": 0.0}),
    ],
)
def test_values_of_a_text(entries, values):
    assert text_values(answer(**entries), radii=(0, 2)) == values


def test_measures_are_means_over_the_texts_that_count_in_them():
    rows = [
        answer(attack="success"),
        answer(answer=0),
        answer(),
        answer(held_out=False, domain="dvd"),
        answer(held_out=False, domain="books", answer=0),
        answer(held_out=False, domain="books"),
        answer(held_out=False, domain="books"),
    ]
    assert run_measures(rows) == pytest.approx(
        {
            "accuracy": 2 / 3,
            "attacked_accuracy": 0.0,
            "seen_accuracy": (1 + 2 / 3) / 2,
            "worst_seen_accuracy": 2 / 3,
        }
    )
