"""The audit in plain words, with the evidence for every contradiction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from robust_nlp.audit.ball import Coverage
from robust_nlp.audit.verdict import Contradiction, Verdict
from robust_nlp.reporting.words import agree, count
from robust_nlp.threats import Unit


def sentences(verdict: Verdict) -> list[str]:
    """Say what an audit found, and what it does not mean."""
    n = count(verdict.texts, "certified text")
    tried = count(verdict.candidates, "searched candidate")
    if verdict.contradictions:
        said = (
            f"{count(verdict.wrong, 'certificate')} of {n} "
            f"{agree(verdict.wrong, 'is', 'are')} contradicted, by {tried}. "
        )
        if verdict.wrong_exact:
            said += (
                f"{verdict.wrong_exact:,} of them "
                f"{agree(verdict.wrong_exact, 'is', 'are')} exact, and must never be."
            )
        else:
            said += (
                f"With {verdict.drawn:,} texts at alpha {verdict.alpha_certificates:g}, "
                f"{verdict.allowed:,} at most may be wrong by chance, with probability "
                f"{verdict.confidence:.0%}."
            )
        end = "The audit passes." if verdict.passed else "The audit fails: a certificate is wrong."
        lines = [said, end]
    else:
        lines = [f"No contradiction found in {n} by {tried}; this is no proof."]
    return [*lines, _extent(verdict), _certainty(verdict)]


def evidence(contradiction: Contradiction, labels: Sequence[str], unit: Unit) -> dict[str, Any]:
    """Return all that is known of a contradiction as plain values, ready for JSON."""
    audited, judgement = contradiction.audited, contradiction.judged.judgement
    assert audited.predicted is not None
    return {
        "example_id": audited.example_id,
        "text": audited.text,
        "pair": audited.pair,
        "attacked": contradiction.judged.attacked,
        "difference": difference(audited.units, contradiction.judged.units, unit),
        "attacker": contradiction.attacker,
        "distance": contradiction.distance,
        "radius": contradiction.radius,
        "certified": _name(labels, audited.predicted),
        "rival": _name(labels, contradiction.rival),
        "bound": contradiction.bound,
        "exact": None if judgement.exact is None else list(judgement.exact),
        "votes": list(judgement.counts),
        "alpha": audited.alpha,
    }


def difference(clean: Sequence[str], attacked: Sequence[str], unit: Unit) -> str:
    """Write the attacked text with what is gone as `[-gone-]` and what is new as `{+new+}`."""
    space = "" if unit == "character" else " "
    parts = []
    for step in Levenshtein.opcodes(clean, attacked):
        gone = space.join(clean[step.src_start : step.src_end])
        new = space.join(attacked[step.dest_start : step.dest_end])
        if step.tag == "equal":
            parts.append(gone)
        else:
            parts += [f"[-{gone}-]"] * bool(gone) + [f"{{+{new}+}}"] * bool(new)
    return space.join(parts)


def spoken(found: dict[str, Any], unit: Unit, *, with_text: bool = True) -> str:
    """Write the evidence of a contradiction in lines for the terminal."""
    if found["exact"] is None:
        seen = (
            f"votes {found['votes']}: {found['rival']} has more than {found['bound']:.4f} of what "
            "both have together"
        )
    else:
        seen = f"exact probabilities {[round(p, 6) for p in found['exact']]}"
    lines = [
        f"Text {found['example_id']}: certified as {found['certified']} against "
        f"{found['attacker']} up to radius {found['radius']}; at distance "
        f"{found['distance']:g} ({unit}s) the answer is {found['rival']}.",
        f"  {seen}",
    ]
    if with_text:
        lines += [f"  text:     {found['text']}"]
        lines += [f"  with:     {found['pair']}"] if found["pair"] is not None else []
        lines += [f"  attacked: {found['attacked']}", f"  changes:  {found['difference']}"]
    return "\n".join(lines)


def _extent(verdict: Verdict) -> str:
    """Say how much of the balls was tried."""
    said: dict[Coverage, str] = {
        "ball": "whole (all texts within the radius)",
        "words": "over a list of words (all texts within the radius whose new units are in it)",
        "sample": "in part (beam and random edits)",
    }
    parts = [
        f"{verdict.coverage[kind]:,} {how}"
        for kind, how in said.items()
        if kind in verdict.coverage
    ]
    confirmed = (
        f" {verdict.confirmed:,} of them {agree(verdict.confirmed, 'is', 'are')} confirmed: "
        "searched whole, with all noisy texts classified."
        if verdict.confirmed
        else ""
    )
    return (
        f"Of {count(verdict.balls, 'certified ball')}, searched were {'; '.join(parts)}.{confirmed}"
    )


def _certainty(verdict: Verdict) -> str:
    return (
        f"{count(verdict.judged, 'candidate')} went to the judge, whose noise no search has seen; "
        f"{verdict.weighed:,} of them had all of its votes. A right certificate is called wrong "
        f"with probability at most {verdict.alpha:g} in all ({verdict.alpha_each:.3g} for each)."
    )


def _name(labels: Sequence[str], label: int) -> str:
    return f"“{labels[label]}”" if label < len(labels) else f"class {label}"
