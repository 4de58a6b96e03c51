"""Means, paired differences and intervals of a study, against calculations of their own."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from study_reviews import made_up, study_recipe

from robust_nlp.study.facts import WORST, study_facts, training_seconds
from robust_nlp.study.intervals import (
    excludes_zero,
    seed_averages,
    seed_differences,
    seed_interval,
    seed_lows,
    text_interval,
)
from robust_nlp.study.tables import study_tables
from robust_nlp.study.words import cautions, findings, title

#: Quantiles 0.975 of Student's t, from a printed table, by degrees of freedom.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def by_hand(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    reach = T[len(values) - 1] * deviation / math.sqrt(len(values))
    return mean - reach, mean + reach


def unpaired(one: list[float], other: list[float]) -> tuple[float, float]:
    """Wrong: as if the two had nothing in common."""
    mean = statistics.fmean(one) - statistics.fmean(other)
    spread = statistics.variance(one) / len(one) + statistics.variance(other) / len(other)
    reach = T[len(one) - 1] * math.sqrt(spread)
    return mean - reach, mean + reach


DOMAINS = ["air", "books", "dvd"]
SEEDS = [0, 1, 2]
#: Right answers of the control among 20 texts: domains and seeds differ a lot.
CONTROL = {
    ("air", 0): 8,
    ("air", 1): 12,
    ("air", 2): 10,
    ("books", 0): 14,
    ("books", 1): 19,
    ("books", 2): 15,
    ("dvd", 0): 10,
    ("dvd", 1): 15,
    ("dvd", 2): 13,
}
#: How many more the variant has right.
GAIN = {
    ("air", 0): 2,
    ("air", 1): 1,
    ("air", 2): 2,
    ("books", 0): 1,
    ("books", 1): 1,
    ("books", 2): 1,
    ("dvd", 0): 2,
    ("dvd", 1): 2,
    ("dvd", 2): 3,
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intervals")
    settings = {"seeds": SEEDS, "deleted": None}
    return study_recipe(folder, **settings)


def right(n: int, of: int = 20) -> list[float]:
    return [1.0] * n + [0.0] * (of - n)


@pytest.fixture(scope="module")
def facts(recipe):
    cells = {("plain", d, s): right(n) for (d, s), n in CONTROL.items()}
    cells |= {("fishr", d, s): right(n + GAIN[d, s]) for (d, s), n in CONTROL.items()}
    return study_facts(made_up(recipe, cells))


def variant(facts, name):
    return next(each for each in facts["variants"] if each["variant"] == name)


def test_means_are_over_seeds_for_each_domain_and_then_over_domains(facts):
    plain = variant(facts, "plain")
    for domain in DOMAINS:
        accuracies = [CONTROL[domain, seed] / 20 for seed in SEEDS]
        assert plain["domains"][domain]["accuracy"] == pytest.approx(statistics.fmean(accuracies))
        deviation = plain["domains"][domain]["deviation"]
        assert deviation == pytest.approx(statistics.stdev(accuracies))
    assert plain["averages"]["accuracy"] == pytest.approx(sum(CONTROL.values()) / 9 / 20)
    assert plain["worst_domain"] == "air"
    assert plain["complete"]
    assert plain["differences"] == {}


def test_domains_count_alike_however_many_seeds_they_have(recipe):
    cells = {("plain", "air", s): right(10) for s in SEEDS} | {("plain", "dvd", 0): right(20)}
    plain = variant(study_facts(made_up(recipe, cells)), "plain")
    assert plain["averages"]["accuracy"] == pytest.approx(0.75)
    dvd = plain["domains"]["dvd"]
    assert (dvd["accuracy"], dvd["deviation"], dvd["seeds"]) == (1.0, None, 1)
    assert not plain["complete"]


def test_the_worst_domain_is_that_of_each_seed(recipe):
    cells = {("plain", "air", 0): right(4), ("plain", "air", 1): right(16)}
    cells |= {("plain", "dvd", 0): right(16), ("plain", "dvd", 1): right(6)}
    cells |= {("fishr", domain, seed): right(10) for _, domain, seed in cells}
    plain, fishr = study_facts(made_up(recipe, cells))["variants"]
    assert plain["averages"][WORST] == pytest.approx((4 + 6) / 40)  # and not min(20, 22) / 40
    found = fishr["differences"][WORST]
    assert found["by_seed"] == pytest.approx({"0": (10 - 4) / 20, "1": (10 - 6) / 20})
    assert found["over_seeds"] == pytest.approx(by_hand([0.3, 0.2]), rel=1e-3)
    assert found["over_texts"] is None


def test_the_interval_over_seeds_is_that_of_paired_averages_over_domains(facts):
    found = variant(facts, "fishr")["differences"]["accuracy"]
    averages = [sum(GAIN[d, s] for d in DOMAINS) / 60 for s in SEEDS]
    assert found["difference"] == pytest.approx(statistics.fmean(averages))
    assert found["by_seed"] == pytest.approx({str(s): averages[s] for s in SEEDS})
    assert found["over_seeds"] == pytest.approx(by_hand(averages), rel=1e-3)
    assert excludes_zero(found["over_seeds"])


def test_each_domain_has_a_paired_difference_of_its_own(facts):
    for domain in DOMAINS:
        found = variant(facts, "fishr")["domains"][domain]
        gains = [GAIN[domain, seed] / 20 for seed in SEEDS]
        assert found["difference"] == pytest.approx(statistics.fmean(gains))
        assert found["over_seeds"] == pytest.approx(by_hand(gains), rel=1e-3, abs=1e-9)


def test_wrong_intervals_are_told_apart(facts):
    low, high = variant(facts, "fishr")["differences"]["accuracy"]["over_seeds"]
    control = [sum(CONTROL[d, s] for d in DOMAINS) / 60 for s in SEEDS]
    fishr = [sum(CONTROL[d, s] + GAIN[d, s] for d in DOMAINS) / 60 for s in SEEDS]
    wrong = unpaired(fishr, control)
    assert wrong[0] < 0.0 < low  # without pairing, seeds hide the difference
    cells = [GAIN[key] / 20 for key in GAIN]  # as if nine cells were nine seeds
    deviation = statistics.stdev(cells) / 3
    pooled = (
        statistics.fmean(cells) - 2.306 * deviation,
        statistics.fmean(cells) + 2.306 * deviation,
    )
    assert pooled != pytest.approx((low, high), rel=0.05)
    domains = [statistics.fmean(GAIN[d, s] / 20 for s in SEEDS) for d in DOMAINS]
    assert by_hand(domains) != pytest.approx((low, high), rel=0.05)  # over domains, not seeds


@pytest.mark.parametrize("values", [[0.01, 0.02, 0.03], [-0.1, 0.2], [0.0, 0.1, 0.1, -0.3, 0.2]])
def test_the_interval_over_seeds_is_students(values):
    assert seed_interval(values) == pytest.approx(by_hand(values), rel=1e-3)


def test_one_seed_has_no_interval():
    assert seed_interval([0.1]) is None
    assert not excludes_zero(None)


def test_the_interval_over_seeds_covers_what_it_should():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        low, high = seed_interval(list(rng.normal(0.3, 0.1, 3)))
        covered += low <= 0.3 <= high
    assert abs(covered / 2000 - 0.95) < 0.02  # four standard errors


def test_seeds_count_only_where_both_have_all_domains():
    cells = {("air", 0): 0.5, ("dvd", 0): 0.7, ("air", 1): 0.9}
    assert seed_averages(cells, ["air", "dvd"]) == {0: pytest.approx(0.6)}
    assert seed_lows(cells, ["air", "dvd"]) == {0: 0.5}
    assert seed_differences({0: 0.5, 1: 0.6}, {1: 0.5, 2: 0.1}) == {1: pytest.approx(0.1)}


def resampled(by_domain: list[np.ndarray], n: int = 4000) -> np.ndarray:
    """Draw the texts of each domain anew, one by one."""
    rng = np.random.default_rng(1)
    return np.array(
        [np.mean([rng.choice(texts, len(texts)).mean() for texts in by_domain]) for _ in range(n)]
    )


DIFFERENCES = [
    np.array([1.0, 0.0, 0.0, -1.0, 1.0, 1 / 3, 0.0, 2 / 3, 0.0, 1.0]),
    np.repeat([0.0, 1 / 3, -1 / 3], 20),
]


def test_the_interval_over_texts_is_that_of_texts_drawn_anew_within_domains():
    found = text_interval(DIFFERENCES, seed=0)
    drawn = resampled(DIFFERENCES)
    assert found == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.02)
    deviation = math.sqrt(sum(d.var() / len(d) for d in DIFFERENCES)) / 2
    mean = np.mean([d.mean() for d in DIFFERENCES])
    assert found == pytest.approx((mean - 1.96 * deviation, mean + 1.96 * deviation), abs=0.03)
    assert text_interval(DIFFERENCES, seed=0) == found


def test_wrong_bootstraps_are_told_apart():
    found = text_interval(DIFFERENCES, seed=0)
    pooled = text_interval([np.concatenate(DIFFERENCES)], seed=0)  # large domains would count more
    assert abs(sum(pooled) - sum(found)) / 2 > 0.08
    domains = text_interval([np.array([d.mean() for d in DIFFERENCES])], seed=0)
    assert domains != pytest.approx(found, abs=0.03)  # domains drawn anew, not texts


def test_texts_are_paired_in_the_interval_over_texts(recipe):
    rng = np.random.default_rng(2)
    cells = {}
    for domain in DOMAINS:
        hard = rng.random(100) < 0.4
        for seed in SEEDS:
            control = np.where(hard, 0.0, 1.0)
            better = control.copy()
            better[np.flatnonzero(hard)[:4]] = 1.0
            cells["plain", domain, seed] = control.tolist()
            cells["fishr", domain, seed] = better.tolist()
    found = variant(study_facts(made_up(recipe, cells)), "fishr")["differences"]["accuracy"]
    assert found["difference"] == pytest.approx(0.04)
    assert excludes_zero(found["over_texts"])
    # Each alone, 300 texts say 0.04 +- 0.08: without pairing, nothing could be seen.
    texts = [np.array(cells["fishr", d, 0]) - 0.0 for d in DOMAINS]
    alone = text_interval(texts, seed=0)
    assert (alone[1] - alone[0]) / 2 * math.sqrt(2) > 0.06
    assert (found["over_texts"][1] - found["over_texts"][0]) / 2 < 0.03


def test_seeds_are_averaged_before_texts_are_drawn(recipe):
    cells = {}
    for seed, sign in zip(SEEDS, ([1, 0], [0, 1], [1, 0]), strict=True):
        cells["plain", "air", seed] = [0.0, 0.0] * 10
        cells["fishr", "air", seed] = [float(value) for value in sign] * 10
    found = variant(study_facts(made_up(recipe, cells)), "fishr")["differences"]["accuracy"]
    texts = np.array([2 / 3, 1 / 3] * 10)
    assert found["over_texts"] == pytest.approx(text_interval([texts], seed=0))


def test_an_interruption_slows_nothing_down_in_the_table():
    assert training_seconds({"seconds": 6.0, "steps": 30, "resumed_at": 0}) == 6.0
    assert training_seconds({"seconds": 4.0, "steps": 30, "resumed_at": 10}) == pytest.approx(6.0)
    assert training_seconds({"seconds": 4.0, "steps": 30, "resumed_at": 30}) is None


def test_costs_are_those_of_the_same_runs(recipe):
    """One of the runs had other work beside it."""
    results = made_up(recipe, {(v, "air", s): [1.0] for v in ("plain", "fishr") for s in SEEDS})
    seconds = {("plain", s): float(1 + s) for s in SEEDS} | {
        ("fishr", s): 9.0 if s == 0 else 2.0 * (1 + s) for s in SEEDS
    }
    for (name, _, seed), numbers in results.numbers.items():
        numbers["training"] = {
            "seconds": seconds[name, seed],
            "steps": 5,
            "resumed_at": 0,
            "passes": 10,
            "texts_read": None if (name, seed) == ("plain", 0) else 10 * (1 + (name == "fishr")),
        }
    cost = variant(study_facts(results), "fishr")["cost"]
    assert cost["relative_seconds"] == pytest.approx(2.0)
    assert cost["relative_passes"] == 1.0
    assert cost["relative_texts_read"] == pytest.approx(2.0)
    assert cost["seconds"] == pytest.approx(6.0)


def words_of(facts):
    return {line.split(":")[0].split(" (")[0]: line for line in findings(facts)}


def test_words_say_whether_a_difference_exceeds_its_intervals(recipe, facts):
    assert "This is the control." in words_of(facts)["plain"]
    said = words_of(facts)["fishr"]
    assert "Against plain +8.3 points" in said
    assert "clear, both intervals exclude zero" in said

    def verdict(fishr, control=10, n=20):
        cells = {("plain", "air", s): right(control, n) for s in SEEDS}
        cells |= {("fishr", "air", s): right(k, n) for s, k in zip(SEEDS, fishr, strict=True)}
        return words_of(study_facts(made_up(recipe, cells)))["fishr"]

    assert "not clear, other test texts might turn it round" in verdict([11, 11, 11])
    assert "not clear, other seeds might turn it round" in verdict([90, 250, 110], 100, 400)
    assert "no difference that exceeds its intervals" in verdict([9, 10, 11])
    assert "no difference that exceeds its intervals" in verdict([10, 10, 10])


def test_an_incomplete_study_says_so(recipe):
    cells = {("plain", d, 0): right(10) for d in DOMAINS} | {("fishr", "air", 0): right(12)}
    facts = study_facts(made_up(recipe, cells))
    facts |= {"planned_runs": 18, "left_out_runs": 1}
    assert "incomplete study: 4 of 18 runs" in title(facts)
    assert "1 run made with other settings left out" in title(facts)
    said = words_of(facts)
    assert "(1 run so far)" in said["fishr"]
    assert "not all domains are measured yet" in said["fishr"]
    assert "No seed has all domains here and in plain." in said["fishr"]
    assert variant(facts, "fishr")["differences"]["accuracy"] is None
    assert all(len(row) == len(table.header) for table in study_tables(facts) for row in table.rows)


def test_cautions_name_few_seeds_and_repeated_texts(recipe, facts):
    said = " ".join(cautions(facts))
    assert "With 3 seeds, the interval over seeds reaches 4.3 standard errors" in said
    assert "reads as well" not in said
    repeats = {"held_out": 2, "seen": 5}
    again = study_facts(made_up(recipe, {("plain", "air", 0): right(3)}, repeats=repeats))
    assert "(2 of air), are left out." in " ".join(cautions(again))


def test_many_domains_go_into_several_tables(recipe):
    domains = [f"domain{i:02d}" for i in range(16)]
    cells = {(v, d, 0): right(10) for v in ("plain", "fishr") for d in domains}
    tables = study_tables(study_facts(made_up(recipe, cells)))
    heads = [name for table in tables[:3] for name in table.header if name in domains]
    assert heads == domains
