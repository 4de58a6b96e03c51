"""Signs that a robustness score should not be trusted, in words.

They never change a score; they say what to read it with. All look at rows, so that they can be
read again from disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import binomtest

from robust_nlp.attacks.rows import AttackRow
from robust_nlp.mechanisms.base import FloatArray

#: Probability of a false alarm in a control experiment.
FALSE_ALARMS = 0.05

#: Shares of examples above which a detector speaks up.
BLIND, SKIPPED, EXHAUSTED = 0.1, 0.5, 0.05

#: Differences of logits between two answers to one text, relative to one plus the largest, that
#: rounding may make.
ROUNDING = 1e-3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a detector saw.

    Attributes:
        name: The detector.
        flagged: Whether the score should be read with care, or not at all.
        words: What it saw, and what to do.
        values: The numbers behind it.
    """

    name: str
    flagged: bool
    words: str
    values: Mapping[str, Any] = field(default_factory=dict)


def saturation(
    default: Sequence[AttackRow], variants: Mapping[str, Sequence[AttackRow]]
) -> Finding:
    """Compare an attack with itself on other scores: they should not make it stronger.

    Scores near 0 or 1 are flat, and an attack that climbs them gets lost: over-confident
    classifiers look robust. Logit margins and softened probabilities are not flat, and leave every
    prediction as it is. Two signs are looked for: examples on which probabilities do not move and
    the other score does, more than a tenth of all; and an attack that wins more often, by an exact
    test of the examples that only one of the two broke, with 5 % false alarms for all variants
    together.

    Args:
        default: Rows of the attack.
        variants: Rows of the same attack on the same examples, by the score that it climbed.

    Source: Raina et al. (2024), for over-confidence as a source of seeming robustness.
    """
    won = {row.example_id: row.outcome == "success" for row in default if row.attacked}
    unmoved = {row.example_id for row in default if row.attacked and row.blind}
    values: dict[str, Any] = {"examples": len(won), "default": sum(won.values())}
    alarms = []
    for name, rows in variants.items():
        others = {row.example_id: row.outcome == "success" for row in rows if row.attacked}
        flat = sum(row.example_id in unmoved and not row.blind for row in rows)
        p, gained, lost = _stronger(won, others)
        values[name] = sum(others.values())
        if p < FALSE_ALARMS / len(variants) or flat > BLIND * len(won):
            alarms.append((gained - lost, flat, name))
    if not alarms:
        words = (
            f"No sign of saturated scores: climbing {_listed(variants)} in place of probabilities "
            f"does not make the attack stronger ({_counts(values, variants)})."
        )
    else:
        _, flat, name = max(alarms)
        words = (
            f"Scores are saturated: on {len(won)} examples the attack succeeds {values[name]} "
            f"times when it climbs {name}, and {values['default']} times when it climbs "
            f"probabilities, which do not move at all on {flat} examples where the others do. The "
            "classifier is over-confident, not robust; its robust accuracy is too high here. "
            "Calibrate it, or attack its margins."
        )
        values["flat"] = flat
    return Finding(name="saturation", flagged=bool(alarms), words=words, values=values)


def stochastic(answers: Sequence[FloatArray]) -> Finding:
    """Compare repeated answers to the same texts.

    Args:
        answers: Logits of the texts, once a repetition; shape `(texts, classes)` each.
    """
    scale = 1.0 + float(np.abs(answers[0]).max())
    spread = max(float(np.abs(other - answers[0]).max()) for other in answers[1:]) / scale
    flips = sum(
        int((other.argmax(axis=1) != answers[0].argmax(axis=1)).sum()) for other in answers[1:]
    )
    flagged = flips > 0 or spread > ROUNDING
    values = {"texts": len(answers[0]), "flips": flips, "spread": spread}
    if flagged:
        words = (
            f"The victim is stochastic: asked {len(answers)} times about the same "
            f"{len(answers[0])} texts, its scores differ by up to {spread:.2g} (relative), and "
            f"{flips} answers change. An attack can win or lose by luck, and its rows cannot be "
            "reproduced. Fix its randomness, or wrap it in a SmoothedClassifier."
        )
    else:
        words = f"The victim answers the same when it is asked again ({len(answers[0])} texts)."
    return Finding(name="stochastic", flagged=flagged, words=words, values=values)


def judged(rows: Sequence[AttackRow], *, votes: int, judge_votes: int) -> Finding:
    """Say what the judge made of the finds of a search that sees noise.

    Args:
        rows: Rows of all attacks.
        votes: Votes per question of the search.
        judge_votes: Votes per verdict at most.
    """
    tried = [row for row in rows if row.attacked]
    seen = [row for row in tried if row.flips > 0]
    won = sum(row.outcome == "success" for row in seen)
    doubtful = sum(row.outcome == "uncertain" for row in tried)
    null = [row.null_flip for row in tried if row.null_flip is not None]
    rate = float(np.mean(null)) if null else 0.0
    return Finding(
        name="judged",
        flagged=doubtful > EXHAUSTED * max(1, len(tried)),
        words=f"The victim is randomized: the search sees {votes} votes, the judge up to "
        f"{judge_votes} new ones. In {len(seen)} of {len(tried)} attacks the search found a text "
        f"of another class; the judge confirms {won} and leaves {doubtful} in doubt. Without any "
        f"edit, as many questions would have shown another class in {rate:.0%} of the attacks.",
        values={
            "attacks": len(tried),
            "flipped_in_search": len(seen),
            "confirmed": won,
            "uncertain": doubtful,
            "null_flip_rate": rate,
        },
    )


def blind(rows: Sequence[AttackRow]) -> Finding:
    """Look for searches whose scores did not move."""
    tried = [row for row in rows if row.attacked and row.asked >= 3]
    lost = [row for row in tried if row.blind and row.outcome != "success"]
    share = len(lost) / max(1, len(tried))
    flagged = share > BLIND
    advice = (
        " The search was blind there: these examples count as robust because nothing could be "
        "climbed. Use another score, or an attack that does not need one."
        if flagged
        else ""
    )
    return Finding(
        name="blind",
        flagged=flagged,
        words=f"In {len(lost)} of {len(tried)} attacks ({share:.0%}) no candidate moved the score, "
        f"and none won.{advice}",
        values={"attacks": len(tried), "blind": len(lost)},
    )


def skipped(rows: Sequence[AttackRow]) -> Finding:
    """Count the examples that were not attacked, of the rows of one attack on all."""
    out = [row for row in rows if not row.attacked]
    abstained = sum(row.clean_predicted is None for row in out)
    share = len(out) / max(1, len(rows))
    doubt = f", {abstained} of them because the classifier abstains" if abstained else ""
    left = len(rows) - len(out)
    advice = f" Robust accuracy is about the {left} others." if share > SKIPPED else ""
    return Finding(
        name="skipped",
        flagged=share > SKIPPED,
        words=f"{len(out)} of {len(rows)} examples ({share:.0%}) were not attacked, for their "
        f"clean text is not classified rightly{doubt}; they count as not robust.{advice}",
        values={"examples": len(rows), "skipped": len(out), "abstained": abstained},
    )


def exhausted(rows: Sequence[AttackRow]) -> Finding:
    """Count the attacks that were ended from outside, or by an error."""
    tried = [row for row in rows if row.attacked]
    counts = {o: sum(row.outcome == o for row in tried) for o in ("budget", "timeout", "error")}
    share = sum(counts.values()) / max(1, len(tried))
    first = next((row.error for row in tried if row.outcome == "error"), "")
    return Finding(
        name="exhausted",
        flagged=share > EXHAUSTED,
        words=f"Of {len(tried)} attacks, {counts['budget']} ran out of forwards, "
        f"{counts['timeout']} out of time, and {counts['error']} ended in errors of TextAttack"
        + (f" (the first: {first})" if first else "")
        + ". They are no successes"
        + (": with larger limits, robust accuracy may be lower." if share > EXHAUSTED else "."),
        values={"attacks": len(tried), **counts},
    )


def transfer(direct: Sequence[AttackRow], transferred: Mapping[int, bool]) -> Finding:
    """Compare attacks on the smoothed classifier with finds against its base classifier.

    Args:
        direct: Rows of the direct attack.
        transferred: By example, whether a text that was found against the base classifier alone
            also changes the smoothed class, as the judge says.
    """
    won = {row.example_id: row.outcome == "success" for row in direct if row.attacked}
    p, _, _ = _stronger(won, transferred)
    both = [i for i in won if i in transferred]
    ours, theirs = sum(won[i] for i in both), sum(transferred[i] for i in both)
    advice = (
        " The direct search is misled by the noise: robust accuracy is too high. Give it more "
        "votes, and count transferred texts as well."
        if p < FALSE_ALARMS
        else ""
    )
    return Finding(
        name="transfer",
        flagged=p < FALSE_ALARMS,
        words=f"Texts found against the base classifier alone break {theirs} of {len(both)} "
        f"examples of the smoothed classifier; the direct attack breaks {ours}.{advice}",
        values={"examples": len(both), "direct": ours, "transferred": theirs, "p_value": p},
    )


def _stronger(won: Mapping[int, bool], others: Mapping[int, bool]) -> tuple[float, int, int]:
    """Test whether others win more; return the p-value, and examples that only one side broke."""
    both = [i for i in won if i in others]
    gained = sum(others[i] and not won[i] for i in both)
    lost = sum(won[i] and not others[i] for i in both)
    if gained + lost == 0:
        return 1.0, 0, 0
    p = binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue
    return float(p), gained, lost


def _listed(names: Mapping[str, Any]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _counts(values: Mapping[str, Any], variants: Mapping[str, Any]) -> str:
    found = ", ".join(str(values[name]) for name in variants)
    return f"{found} successes against {values['default']} on {values['examples']} examples"
