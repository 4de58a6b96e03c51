"""The findings of a run in a few sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robust_nlp.reporting.facts import at, measure_name, telling_radius
from robust_nlp.reporting.words import agree, count, failure, of_all, percent

Facts = Mapping[str, Any]


def summary(
    counts: Facts,
    first: Facts,
    same_answer: Facts | None,
    *,
    unit: str,
    labelled: bool,
    alpha: float,
) -> list[str]:
    """Say in plain words what was found, the most important first.

    Args:
        counts: What `text_facts` returns.
        first: What `attacker_facts` returns about the first attacker.
        same_answer: What `breakdown.same_answer` returns.
        unit: Unit of the edits.
        labelled: Whether right answers are known.
        alpha: Failure probability of one text.
    """
    radius = telling_radius(first)
    telling, edits = at(first, radius), count(radius, f"{unit} edit")
    measure = f"{measure_name(labelled)} at {edits}"
    threat = f"any {edits} ({first['moves']})"
    lines = [f"{_answers(counts, telling, threat, labelled=labelled)}; {failure(alpha)}."]
    if same_answer is not None:
        lines.append(_same_answer(same_answer))
    if counts["abstentions"]:
        lines.append(
            f"On {of_all(counts['abstentions'], counts['texts'])} the votes leave a doubt "
            f"(abstention{', counted as wrong' if labelled else ''})."
        )
    if counts["dead_zone"]:
        lines.append(_dead_zone(counts, telling, measure))
    if counts["vacuous"]:
        lines.append(_vacuous(counts, telling, measure))
    if counts["all_swaps"] is not None:
        lines.append(_all_swaps(counts, labelled=labelled))
    lines.append(_certificates(counts, telling, measure))
    return lines


def _answers(counts: Facts, telling: Facts, threat: str, *, labelled: bool) -> str:
    n, right, kept = counts["texts"], counts["right"], telling["count"]
    if labelled:
        answer, keep = "classified correctly", agree(kept, "stays so", "stay so")
    else:
        answer, keep = "given a certified answer", agree(kept, "keeps it", "keep it")
    return (
        f"Of {count(n, 'text')}, {of_all(right, n)} {agree(right, 'is', 'are')} {answer} by the "
        f"smoothed classifier; {of_all(kept, n)} provably {keep} under {threat}"
    )


def _same_answer(same: Facts) -> str:
    true = "" if same["true"] is None else f", although only {same['true']:,} of them are"
    return (
        f"Caution: {same['answers']:,} of the {same['answered']:,} answers are "
        f"“{same['class']}”{true}. A classifier that hardly looks at the text is easy to certify."
    )


def _dead_zone(counts: Facts, telling: Facts, measure: str) -> str:
    short, rest = counts["dead_zone"], telling["share_without_dead_zone"]
    apart = "" if rest is None else f"; without them, {measure} is {percent(rest)}"
    return (
        f"{of_all(short, counts['texts'])} {agree(short, 'is', 'are')} so short that all texts of "
        f"the same length have the same answer (dead zone){apart}."
    )


def _vacuous(counts: Facts, telling: Facts, measure: str) -> str:
    none, rest = counts["vacuous"], telling["share_with_swaps"]
    apart = "" if rest is None else f"; without them, {measure} is {percent(rest)}"
    return (
        f"Caution: {of_all(none, counts['texts'])} {agree(none, 'has', 'have')} no word with a "
        f"substitute that is covered: there is nothing to swap, and the radius says nothing{apart}."
    )


def _all_swaps(counts: Facts, *, labelled: bool) -> str:
    every = counts["all_swaps"]
    answer = "right answer" if labelled else "certified answer"
    return (
        f"However many words are replaced by allowed substitutes, "
        f"{of_all(every, counts['texts'])} provably {agree(every, 'keeps', 'keep')} a {answer}, "
        "texts with nothing to swap not counted. On average a text has "
        f"{counts['swappable']:.1f} words that can be replaced."
    )


def _certificates(counts: Facts, telling: Facts, measure: str) -> str:
    exact, drawn = counts["exact"], counts["statistical"]
    wrong = counts["wrong_certificates_at_most"]
    if not drawn:
        return "All certificates are exact: every noisy text that matters was classified."
    origin = "All certificates rest on drawn votes."
    if exact:
        origin = (
            f"{count(exact, 'certificate')} {agree(exact, 'is', 'are')} exact, {drawn:,} "
            f"{agree(drawn, 'rests', 'rest')} on drawn votes."
        )
    at_most = f"at most {wrong:,}" if wrong else "none"
    return (
        f"{origin} With probability 95 % {at_most} of these {agree(max(1, wrong), 'is', 'are')} "
        f"wrong, and so {measure} is at least {percent(telling['corrected'])} on these texts."
    )
