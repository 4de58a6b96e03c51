"""Bounds on probabilities from votes whose number was fixed in advance."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import beta, binomtest


def lower_confidence_bound(successes: int, trials: int, *, alpha: float) -> float:
    """Bound a success probability from below (one-sided Clopper–Pearson).

    In at most a fraction `alpha` of repetitions the true probability is smaller than the returned
    value, whatever that probability is.

    Args:
        successes: Votes for the class, in `0..trials`.
        trials: Votes in total, from draws that were not used to choose the class.
        alpha: Failure probability, e.g. `1e-3` (not the confidence level `0.999`).

    Returns:
        A probability in `[0, 1)`; `0.0` if there are no successes.

    Raises:
        ValueError: If `successes` is outside `0..trials` or `alpha` outside `(0, 1)`.

    Source: Clopper and Pearson (1934), as in CERTIFY of Cohen et al. (2019).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be in 0..{trials}; got {successes}")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is a failure probability in (0, 1), such as 0.001; got {alpha!r}")
    return 0.0 if successes == 0 else float(beta.ppf(alpha, successes, trials - successes + 1))


def upper_confidence_bound(successes: int, trials: int, *, alpha: float) -> float:
    """Bound a success probability from above (one-sided Clopper–Pearson).

    In at most a fraction `alpha` of repetitions the true probability is larger than the returned
    value. See `lower_confidence_bound` for the arguments and errors.
    """
    return 1.0 - lower_confidence_bound(trials - successes, trials, alpha=alpha)


def confident_class(counts: Sequence[int], *, alpha: float) -> int | None:
    """Return the most probable class, or `None` (abstain) if the votes leave a doubt.

    With probability at most `alpha` the returned class is not the most probable one, however many
    classes there are: the two leading counts are compared by a two-sided exact binomial test.

    Args:
        counts: Votes per class; shape `(classes,)`.
        alpha: Failure probability, in `(0, 1)`.

    Raises:
        ValueError: If there are fewer than two classes, a negative count, or alpha is out of range.

    Source: Hung and Fithian (2019), rank verification; PREDICT of Cohen et al. (2019).
    """
    if len(counts) < 2 or min(counts) < 0:
        raise ValueError(f"counts must be non-negative votes of 2 classes or more; got {counts!r}")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is a failure probability in (0, 1), such as 0.001; got {alpha!r}")
    order = sorted(range(len(counts)), key=lambda label: -counts[label])
    first, second = counts[order[0]], counts[order[1]]
    if first == second:
        return None
    return order[0] if binomtest(first, first + second).pvalue <= alpha else None
