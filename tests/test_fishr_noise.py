"""What is noise in the penalty, what takes it out, and what says how much there is."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from fishr_oracles import Threads, batch_of, linear_gradients

from robust_nlp.fishr.batch import alternate, domain_batch
from robust_nlp.fishr.diagnostics import diagnose, penalty_to_noise

path = Path(__file__).parents[1] / "benchmarks" / "fishr_noise.py"
spec = importlib.util.spec_from_file_location("fishr_noise", path)
noise = importlib.util.module_from_spec(spec)
spec.loader.exec_module(noise)

DRAWS = 150


@cache
def drawn(rows, shift):
    return noise.simulate(rows, shift=shift, draws=DRAWS, gamma=0.9, hidden=24)


@cache
def truth():
    return noise.population(shift=0.3, hidden=24, rows=4096, draws=4)


def distance(values, expected):
    """How many standard errors the mean lies above what is expected."""
    return (values.mean() - expected) / (values.std(ddof=1) / len(values) ** 0.5)


@pytest.mark.parametrize("rows", [4, 8, 32])
def test_cross_split_is_centred_on_the_truth_and_the_plain_penalty_is_not(rows):
    alike, shifted = drawn(rows, 0.0), drawn(rows, 0.3)
    assert abs(distance(alike["cross_split"], 0.0)) < 3.5
    assert abs(distance(shifted["cross_split"], truth()["plain"])) < 3.5
    assert distance(alike["plain"], 0.0) > 15
    assert distance(shifted["plain"], truth()["plain"]) > 5


def test_with_few_rows_the_plain_penalty_is_mostly_noise():
    assert drawn(4, 0.0)["plain"].mean() > 0.5 * drawn(4, 0.3)["plain"].mean()
    assert drawn(4, 0.0)["plain"].mean() > 5 * truth()["plain"]


def test_a_debiased_average_lowers_noise_as_theory_says():
    alike = drawn(8, 0.0)
    ratio = alike["plain"].mean() / alike["plain_averaged"].mean()
    assert ratio == pytest.approx(1.9 / 0.1, rel=0.3)


def test_averages_of_halves_are_centred_as_well():
    # 150 steps of a memory of 19 are not 150 independent ones
    values = drawn(8, 0.3)["cross_split_averaged"]
    error = values.std(ddof=1) / (len(values) / 19) ** 0.5
    assert abs(values.mean() - truth()["plain"]) < 3.5 * error


def test_relative_penalties_do_not_depend_on_the_unit_of_features():
    settings = {"shift": 0.3, "draws": 5, "gamma": 0.5, "hidden": 8}
    one, other = (noise.simulate(8, scale=scale, **settings) for scale in (1.0, 4.0))
    np.testing.assert_allclose(other["plain"], 4.0**4 * one["plain"], rtol=1e-4)
    for name in ("plain_relative", "cross_split_relative", "plain_averaged_relative"):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-3, atol=1e-6)


# --- diagnosis -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [4, 8, 32])
def test_a_penalty_less_its_noise_is_centred_on_the_truth(rows):
    for shift, expected in ((0.0, 0.0), (0.3, truth()["plain"])):
        values = drawn(rows, shift)
        rest = values["diagnosed_penalty"] - values["diagnosed_noise"]
        assert abs(distance(rest, expected)) < 3.5
        assert distance(values["diagnosed_penalty"], expected) > 5


def test_ratio_to_noise_is_one_where_domains_are_alike():
    def ratio(rows, shift, gamma):
        values = drawn(rows, shift)
        penalty, noise = (values[f"diagnosed_{name}"].mean() for name in ("penalty", "noise"))
        return penalty_to_noise(penalty, noise, gamma=gamma)

    assert ratio(32, 0.0, 0.0) == pytest.approx(1.0, abs=0.1)
    assert ratio(8, 0.3, 0.0) < 2.0
    assert ratio(8, 0.3, 0.9) > 2.5
    assert ratio(32, 0.3, 0.9) > 8.0


def test_ratio_counts_the_average():
    assert penalty_to_noise(3.0, 2.0) == pytest.approx(1.5)
    assert penalty_to_noise(3.0, 2.0, gamma=0.5) == pytest.approx(1.0 + 1.0 / (2.0 / 3.0))
    assert penalty_to_noise(1.0, 2.0) == 1.0
    for bad in ((-1.0, 1.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 1.0), (float("nan"), 1.0, 0.0)):
        with pytest.raises(ValueError, match="expected penalty >= 0, noise > 0"):
            penalty_to_noise(bad[0], bad[1], gamma=bad[2])


def a_batch():
    features, weight, bias, labels, domains = batch_of(rows=40, classes=2, domains=4)
    labels[domains == 1] = 1
    labels[0], domains[1] = -100, -1
    return features, weight, bias, labels, domains


def diagnosis_of(rows=slice(None), **settings):
    features, weight, bias, labels, domains = a_batch()
    groups = torch.where(labels < 0, -1, domains)
    batch = domain_batch(
        features[rows],
        (features @ weight.T + bias)[rows],
        labels[rows],
        domains[rows],
        halves=alternate(groups)[rows],
    )
    return diagnose(batch, ["a", "b", "c", "d", "e"], **settings)


def test_rows_effective_rows_and_single_labels():
    *inputs, labels, domains = a_batch()
    found = diagnosis_of()
    known = labels >= 0
    counts = {"abcd"[e]: int((known & (domains == e)).sum()) for e in range(4)}
    assert found.rows == counts
    assert found.single_label == ("b",)

    def loss(logits, labels):
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    gradients = linear_gradients(*inputs, labels.clamp(min=0), loss).detach()
    sizes = gradients.square().sum(dim=1)
    for e, name in enumerate("abcd"):
        s = sizes[known & (domains == e)]
        assert found.effective_rows[name] == pytest.approx(float(s.sum() ** 2 / (s**2).sum()))
        assert 1.0 <= found.effective_rows[name] <= counts[name]


def test_two_processes_diagnose_as_one_does():
    whole, second = diagnosis_of(), torch.arange(40) % 3 == 0
    results = Threads(2).run(
        lambda rank, reduce: diagnosis_of(second if rank else ~second, reduce=reduce)
    )
    for found in results:
        assert (found.rows, found.single_label) == (whole.rows, whole.single_label)
        assert found.noise == pytest.approx(whole.noise)
        assert found.penalty == pytest.approx(whole.penalty)
        assert found.effective_rows == pytest.approx(whole.effective_rows)


def test_too_few_rows_have_no_noise_to_estimate():
    found = diagnosis_of(slice(0, 8))
    assert (found.penalty, found.noise) == (None, None)
    assert sum(found.rows.values()) == 6
