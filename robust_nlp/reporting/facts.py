"""The facts of a report, as plain values: what report.json holds and report.html shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robust_nlp.reporting import words
from robust_nlp.reporting.accuracy import (
    DOUBT,
    certified_curve,
    drawn_texts,
    largest_radius,
    table_radii,
    wrong_certificates,
)
from robust_nlp.reporting.texts import CertifiedText

#: Certified accuracy that the radius of the summary should still reach.
TELLING_SHARE = 0.25


def attacker_facts(
    texts: Sequence[CertifiedText], attacker: str, radii: Iterable[int] | None
) -> dict[str, Any]:
    """Return the curve of certified accuracy against one attacker.

    `curve` has all radii up to one beyond the largest, and those asked for; `table` the radii for
    a table.
    """
    largest = largest_radius(texts, attacker)
    threat = texts[0].certificates[attacker].threat
    table = table_radii(largest or 0) if radii is None else sorted(set(radii))
    curve = certified_curve(texts, attacker, sorted({*range((largest or 0) + 2), *table}))
    half = [point.radius for point in curve if point.share >= 0.5]
    return {
        "attacker": attacker,
        "moves": words.moves(threat),
        "allowed_only": threat.substitutes is not None,
        "largest_radius": largest,
        "radius_of_half_the_texts": max(half, default=None),
        "table": table,
        "curve": [dataclasses.asdict(point) for point in curve],
    }


def at(attacker: Mapping[str, Any], radius: int) -> dict[str, Any]:
    """Return the point of a curve at a radius."""
    points: list[dict[str, Any]] = attacker["curve"]
    return next(point for point in points if point["radius"] == radius)


def measure_name(labelled: bool) -> str:
    """Name the share that a curve shows."""
    return "certified accuracy" if labelled else "certified share"


def telling_radius(attacker: Mapping[str, Any]) -> int:
    """Return the largest radius that a quarter of the texts reach, at least 1."""
    reached: list[int] = [p["radius"] for p in attacker["curve"] if p["share"] >= TELLING_SHARE]
    return max([1, *reached])


def text_facts(texts: Sequence[CertifiedText]) -> dict[str, Any]:
    """Count texts by what matters for reading the accuracy.

    Where substitutes are limited to allowed ones, `vacuous` counts the texts without anything to
    swap, `all_swaps` the right answers that stand however many words are replaced in a text with
    something to swap, and `swappable` is the mean number of words with a substitute.
    """
    free = texts[0].first.swappable is None
    drawn = drawn_texts(texts)
    alpha = max(text.first.alpha for text in texts)
    return {
        "texts": len(texts),
        "distinct": len({text.text_hash for text in texts}),
        "right": sum(text.right for text in texts),
        "abstentions": sum(text.first.abstains for text in texts),
        "dead_zone": sum(text.first.dead_zone for text in texts),
        "vacuous": sum(text.vacuous for text in texts),
        "all_swaps": None if free else sum(t.right and t.first.covers_all_swaps for t in texts),
        "swappable": None if free else sum(t.first.swappable or 0 for t in texts) / len(texts),
        "exact": sum(text.first.alpha == 0.0 for text in texts),
        "statistical": sum(text.first.alpha > 0.0 for text in texts),
        "statistical_distinct": drawn,
        "wrong_certificates_at_most": wrong_certificates(drawn, alpha=alpha),
        "confidence": 1.0 - DOUBT,
    }


def cost_facts(
    texts: Sequence[CertifiedText], most_votes: int | None, stage: Mapping[str, Any]
) -> dict[str, Any]:
    """Return votes and time of a certification."""
    asked = sum(text.votes_asked for text in texts)
    classified = sum(text.votes_classified for text in texts)
    seconds = sum(text.seconds for text in texts)
    most = None if most_votes is None else most_votes * len(texts)
    return {
        "votes_asked": asked,
        "votes_classified": classified,
        "votes_at_most": most,
        "votes_saved": None if most is None else most - classified,
        "share_saved": None if most is None else 1.0 - classified / most,
        "process_seconds": seconds,
        "texts_per_process_second": len(texts) / seconds if seconds > 0.0 else None,
        "stage_seconds": stage.get("seconds"),
        "processes": stage.get("processes"),
    }


def run_marks(rows: int | None, *, limit: int | None, done: int, complete: bool) -> list[str]:
    """Say how a run falls short of its whole split; empty if it does not.

    Args:
        rows: Texts of the split, if known.
        limit: Texts that the recipe asks for at most.
        done: Texts that are certified.
        complete: Whether the certification says that it came to its end.
    """
    marks = []
    if limit is not None and (rows is None or limit < rows):
        whole = "" if rows is None else f" of {rows:,}"
        marks.append(f"limited run: the first {limit:,}{whole} texts of the split")
    expected = min((number for number in (limit, rows) if number is not None), default=done)
    if done < expected:
        marks.append(f"incomplete run: {done:,} of {expected:,} texts are certified")
    elif not complete:
        marks.append(f"incomplete run: {words.count(done, 'text')} certified so far")
    return marks
