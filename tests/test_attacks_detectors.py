"""Detectors speak up when they should, and only then; accuracies of known rows."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import binomtest

from robust_nlp.attacks import detectors
from robust_nlp.attacks.report import AttackReport, accuracies, proportion
from robust_nlp.attacks.rows import AttackRow, distances
from robust_nlp.attacks.settings import AttackRecipe
from robust_nlp.settings import build, plain


def rows(outcomes, **values):
    return [
        AttackRow(
            attack="x",
            example_id=i,
            label=0,
            outcome=outcome,
            text="a b",
            asked=9,
            **values,
        )
        for i, outcome in enumerate(outcomes)
    ]


S, F = "success", "failed"


@pytest.mark.parametrize(
    ("default", "variant", "flagged"),
    [
        ([F] * 20, [S] * 20, True),
        ([F] * 20, [S] * 6 + [F] * 14, True),
        ([F] * 20, [S] * 5 + [F] * 15, False),  # 5 of 5 is no proof at 5 % for three variants
        ([S, F] * 10, [F, S] * 10, False),
        ([S] * 20, [F] * 20, False),
        (["skipped"] * 20, ["skipped"] * 20, False),
    ],
)
def test_saturation_is_a_test_of_what_only_one_attack_broke(default, variant, flagged):
    same = rows(default)
    found = detectors.saturation(
        same, {"margins": rows(variant), "temperature": same, "other": same}
    )
    assert found.flagged is flagged
    assert ("over-confident" in found.words) is flagged
    gained = sum(v == S and d == F for v, d in zip(variant, default, strict=True))
    lost = sum(d == S and v == F for v, d in zip(variant, default, strict=True))
    if gained + lost:
        p = binomtest(gained, gained + lost, alternative="greater").pvalue
        assert flagged == (p < 0.05 / 3)


def test_scores_that_do_not_move_where_margins_do_are_saturated():
    flat, same = rows([F] * 20), rows([F] * 20)
    flat[:3] = rows([F] * 3, blind=True)
    found = detectors.saturation(flat, {"margins": same})
    assert found.flagged
    assert found.values["flat"] == 3
    assert not detectors.saturation(flat, {"margins": flat}).flagged
    assert not detectors.saturation([*flat[1:], same[0]], {"margins": same}).flagged
    assert not detectors.saturation(same, {"margins": flat}).flagged


def test_a_stochastic_victim_is_named():
    same = np.array([[1.0, 2.0], [3.0, -4.0]])
    assert not detectors.stochastic([same, same + 1e-6]).flagged
    moved = detectors.stochastic([same, same + np.array([[0.1, 0.0], [0.0, 0.0]])])
    assert moved.flagged
    assert moved.values["flips"] == 0
    flipped = detectors.stochastic([same, same[:, ::-1]])
    assert flipped.values["flips"] == 2
    assert "stochastic" in flipped.words


def test_blind_searches_are_counted():
    seeing = rows([F] * 9)
    lost = rows([F] * 2, blind=True)
    found = detectors.blind(seeing + lost)
    assert found.values == {"attacks": 11, "blind": 2}
    assert found.flagged
    assert not detectors.blind(seeing * 3 + lost).flagged
    few = [dataclasses.replace(row, asked=2) for row in lost]  # too few texts to tell
    assert not detectors.blind(few).flagged
    assert not detectors.blind([dataclasses.replace(row, outcome=S) for row in lost]).flagged


def test_skipped_and_exhausted_examples_are_counted():
    mixed = rows(["skipped"] * 3 + [F] * 2, clean_predicted=1)
    mixed[0] = dataclasses.replace(mixed[0], clean_predicted=None)
    found = detectors.skipped(mixed)
    assert found.flagged
    assert found.values == {"examples": 5, "skipped": 3, "abstained": 1}
    assert not detectors.skipped(rows(["skipped", F])).flagged
    found = detectors.exhausted(rows(["budget", "timeout", *[F] * 10, "skipped"]))
    assert found.flagged
    assert found.values == {"attacks": 12, "budget": 1, "timeout": 1, "error": 0}
    assert not detectors.exhausted(rows(["budget", *[F] * 20])).flagged


def test_transfer_is_compared_by_example():
    direct = rows([F] * 8 + [S] * 2)
    stronger = dict.fromkeys(range(10), True)
    found = detectors.transfer(direct, stronger)
    assert found.flagged
    assert found.values["direct"] == 2
    assert found.values["transferred"] == 10
    assert not detectors.transfer(
        direct, {i: row.outcome == S for i, row in enumerate(direct)}
    ).flagged


def test_what_the_judge_leaves_is_said():
    noisy = rows([S, "uncertain", F, F], flips=1, null_flip=0.25)
    found = detectors.judged(noisy, votes=30, judge_votes=300)
    assert found.values == {
        "attacks": 4,
        "flipped_in_search": 4,
        "confirmed": 1,
        "uncertain": 1,
        "null_flip_rate": 0.25,
    }
    assert "25%" in found.words


# --- accuracies ----------------------------------------------------------------------------------


def test_accuracies_of_each_outcome():
    found = accuracies(
        [
            *rows([S, S, F, F, F, "skipped", "budget", "timeout", "error"]),
            *rows(["uncertain"], flips=2),
        ]
    )
    values = {name: v["value"] for name, v in found.items() if isinstance(v, dict) and "value" in v}
    assert values == {
        "clean_accuracy": 0.9,
        "robust_accuracy": 0.6,
        "robust_accuracy_lenient": 0.7,
        "robust_accuracy_strict": 0.3,
        "robustness_score": pytest.approx(0.3),
        "in_search_accuracy": 0.6,
        "attack_success_rate": pytest.approx(2 / 9),
    }
    assert accuracies([])["robust_accuracy"] is None
    assert accuracies(rows(["skipped"]))["attack_success_rate"] is None


def test_intervals_are_those_of_wilson():
    n, k, z = 40, 13, 1.959963984540054
    centre = (k / n + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
    found = proportion(k, n)
    np.testing.assert_allclose([found["low"], found["high"]], [centre - half, centre + half])


def test_an_example_survives_only_if_every_attack_failed():
    order = [S, "skipped", "uncertain", "error", "timeout", "budget", F]
    for worse in order:
        for better in order[order.index(worse) :]:
            first = rows([better], flips=1)
            second = rows([worse], flips=2)
            for parts in ([first, second], [second, first]):
                report = AttackReport(rows=dict(zip("ab", parts, strict=True)), findings=[])
                (row,) = report.worst()
                assert row.outcome == worse
                assert row.flips == 3


def test_edits_are_counted_wherever_words_stand():
    found = distances("a good film at all", "such a good film at all", "second")
    assert found == {"edits": 1, "edit_rate": 0.2, "characters": 5}
    found = distances(("keep", "one two"), ("keep", "two"), "first")
    assert found["edits"] == 1
    assert found["edit_rate"] == 0.5


# --- settings ------------------------------------------------------------------------------------


def test_settings_come_from_plain_values_without_torch():
    values = {"attacks": ["a2t", "pruthi"], "swaps": {"good": ["fine"]}, "max_forwards": 500}
    recipe = build(AttackRecipe, values)
    assert recipe.attacks == ("a2t", "pruthi")
    assert build(AttackRecipe, plain(recipe)) == recipe
    script = "import sys, robust_nlp.attacks; assert not {'torch', 'textattack'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"attacks": ()}, "one attack or more"),
        ({"attacks": ("textfoler",)}, r"got 'textfoler'\. Did you mean 'textfooler'"),
        ({"attacks": ("pwws", "pwws")}, "each attack goes once"),
        ({"attacks": ("a2t",)}, "swaps, such as a neighbour file, belong"),
        ({"swaps": {"a": ["b"]}}, "swaps, such as a neighbour file, belong"),
        ({"max_forwards": 0}, "max_forwards must be at least 1"),
        ({"max_seconds": 0.0}, "max_seconds must be above 0"),
        ({"search_votes": 101}, "at least 10 times search_votes"),
        ({"alpha": 0.0}, "alpha is a failure probability"),
        ({"redraw": 0}, "redraw must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        AttackRecipe(**values)
