"""Differences between two variants of a training, and what chance leaves uncertain about them.

Two things are random: how a training turns out, and which test texts a domain has. Each has an
interval of its own here, with the other taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import t as student

from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.units import keyed_rng

#: Probability with which an interval covers what it is for.
LEVEL = 0.95

#: Test texts drawn anew so many times.
RESAMPLES = 10_000

#: A number for each held-out domain and seed.
Cells = Mapping[tuple[str, int], float]

Interval = tuple[float, float]


def seed_averages(cells: Cells, domains: Sequence[str]) -> dict[int, float]:
    """Return the mean over domains for each seed that has all of them.

    Args:
        cells: The numbers.
        domains: The domains.
    """
    seeds = sorted({seed for _, seed in cells})
    return {
        seed: float(np.mean([cells[domain, seed] for domain in domains]))
        for seed in seeds
        if all((domain, seed) in cells for domain in domains)
    }


def seed_lows(cells: Cells, domains: Sequence[str]) -> dict[int, float]:
    """Return the lowest number over domains for each seed that has all of them."""
    return {
        seed: min(cells[domain, seed] for domain in domains)
        for seed in seed_averages(cells, domains)
    }


def seed_differences(
    variant: Mapping[int, float], control: Mapping[int, float]
) -> dict[int, float]:
    """Return what a variant has more than the control, for each seed that both have."""
    return {seed: variant[seed] - control[seed] for seed in sorted(variant.keys() & control.keys())}


def seed_interval(differences: Sequence[float]) -> Interval | None:
    """Return the interval of the mean difference over trainings with other seeds.

    It covers that mean with probability 95 % if differences are normally distributed: Student's
    interval. Held-out domains and test texts are taken as they are.

    Args:
        differences: One a seed, each between two trainings with that seed.

    Returns:
        Both ends; `None` for less than two seeds.
    """
    n = len(differences)
    if n < 2:
        return None
    mean = float(np.mean(differences))
    reach = seed_factor(n) * float(np.std(differences, ddof=1) / np.sqrt(n))
    return mean - reach, mean + reach


def seed_factor(n: int) -> float:
    """Return how many standard errors an interval over `n` seeds reaches to each side."""
    return float(student.ppf((1.0 + LEVEL) / 2.0, n - 1))


def text_interval(by_domain: Sequence[FloatArray], *, seed: int) -> Interval:
    """Return the interval of the mean difference over other test texts of the same domains.

    The texts of each domain are drawn anew, with replacement, and the mean over domains is taken:
    the percentile bootstrap, within domains. Trainings are taken as they are.

    Args:
        by_domain: For each domain, the difference between variant and control of each text, as the
            mean over seeds; shape `(texts,)`, one text at least.
        seed: Seed of the draws.
    """
    rng = keyed_rng(seed, "study-bootstrap")
    total = np.zeros(RESAMPLES)
    for differences in by_domain:
        # Texts with the same difference are alike: their numbers are drawn, not they themselves.
        values, counts = np.unique(differences, return_counts=True)
        n = len(differences)
        total += rng.multinomial(n, counts / n, size=RESAMPLES) @ values / n
    low, high = np.quantile(total / len(by_domain), [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return float(low), float(high)


def excludes_zero(interval: Interval | None) -> bool:
    """Tell whether an interval is on one side of zero."""
    return interval is not None and (interval[0] > 0.0 or interval[1] < 0.0)
