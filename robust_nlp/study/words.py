"""The findings of a study in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robust_nlp.reporting.tables import percent
from robust_nlp.reporting.words import count
from robust_nlp.study.intervals import excludes_zero, seed_factor
from robust_nlp.study.tables import between, points

Facts = Mapping[str, Any]


def title(facts: Facts) -> str:
    """Name the study, and how it falls short of the whole."""
    marks = []
    if facts["measured_runs"] < facts["planned_runs"]:
        marks.append(
            f"incomplete study: {facts['measured_runs']:,} of {facts['planned_runs']:,} runs"
        )
    if facts["left_out_runs"]:
        other = count(facts["left_out_runs"], "run")
        marks.append(f"{other} made with other settings left out")
    if facts["recipe"]["study"]["limit"] is not None:
        marks.append(f"at most {facts['recipe']['study']['limit']:,} test texts a domain")
    return f"{facts['name']}: domains that training did not see" + (
        f" ({'; '.join(marks)})" if marks else ""
    )


def findings(facts: Facts) -> list[str]:
    """Say for each variant whether it differs from the control by more than chance explains."""
    return [_finding(facts, variant) for variant in facts["variants"]]


def cautions(facts: Facts) -> list[str]:
    """Say what the numbers mean, and what they do not show."""
    seeds, study = len(facts["seeds"]), facts["recipe"]["study"]
    said = [
        "Averages are over seeds and held-out domains; the worst domain is that of each seed. "
        "Differences are between runs with the same held-out domain and seed. The interval over "
        "seeds (Student's t, of the average over domains) says what other seeds might give with "
        "these domains and test texts; the interval over test texts (bootstrap within domains) "
        "what other test texts of these domains might give with these trained models. A difference "
        "is called clear if both exclude zero. Neither says anything about other domains."
    ]
    if 1 < seeds < 5:
        said.append(
            f"With {seeds} seeds, the interval over seeds reaches {seed_factor(seeds):.1f} "
            "standard errors to each side, instead of 2.0 with many: it is wide, and a small "
            "difference can hardly be clear."
        )
    others = len(facts["variants"]) - 1
    if others > 1:
        said.append(
            f"{others} variants are compared with one control, each by several measures: an "
            "interval at 95 % excludes zero by chance in one comparison of twenty."
        )
    if len(facts["hosts"]) > 1:
        said.append("Runs were made on different machines: seconds do not compare.")
    repeats = {
        domain: texts["repeats"]["held_out"]
        for domain, texts in facts["texts"].items()
        if texts["repeats"] is not None and texts["repeats"]["held_out"]
    }
    if repeats:
        found = ", ".join(f"{number:,} of {domain}" for domain, number in repeats.items())
        how = "are left out" if study["drop_repeats"] else "are counted: accuracy is too high there"
        said.append(
            f"Test texts that training or validation reads as well, case and punctuation aside "
            f"({found}), {how}."
        )
    return said


def _finding(facts: Facts, variant: Facts) -> str:
    name, average = variant["variant"], variant["averages"]["accuracy"]
    runs = "" if variant["complete"] else f" ({count(variant['runs'], 'run')} so far)"
    if not variant["runs"]:
        return f"{name}: not measured yet."
    start = f"{name}{runs}: "
    if average is not None:
        worst = variant["averages"]["worst_accuracy"]
        start += f"{percent(average)} % in held-out domains on average, lowest in "
        start += f"{variant['worst_domain']}"
        start += "." if worst is None else f", {percent(worst)} % in the worst of each seed."
    else:
        start += "not all domains are measured yet."
    if name == facts["control"]:
        return f"{start} This is the control."
    found = variant["differences"]["accuracy"]
    if found is None:
        return f"{start} No seed has all domains here and in {facts['control']}."
    said = [
        start,
        f"Against {facts['control']} {points(found['difference'])} points, {_verdict(found)}.",
    ]
    clear = [
        f"{facts['measures'][measure]} ({points(each['difference'])})"
        for measure, each in variant["differences"].items()
        if measure != "accuracy" and each is not None and each["clear"]
    ]
    if clear:
        said.append(f"Clear differences besides: {'; '.join(clear)}.")
    return " ".join(said)


def _verdict(found: Facts) -> str:
    """Say whether a difference exceeds its intervals."""
    seeds, texts = found["over_seeds"], found["over_texts"]
    if seeds is None:
        return f"over test texts {between(texts)}: one seed tells nothing about others"
    said = {
        (True, True): "clear, both intervals exclude zero",
        (True, False): "not clear, other test texts might turn it round",
        (False, True): "not clear, other seeds might turn it round",
        (False, False): "no difference that exceeds its intervals",
    }[excludes_zero(seeds), excludes_zero(texts)]
    n = len(found["by_seed"])
    return f"over {n} seeds {between(seeds)}, over test texts {between(texts)}: {said}"
