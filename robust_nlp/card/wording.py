"""The section of a model card about robustness, in words and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robust_nlp.attacks.wording import sentences as attack_sentences
from robust_nlp.card.results import data_of, measured_of, own_attacks, own_scores
from robust_nlp.reporting.words import NOUNS, count, failure, percent

Facts = Mapping[str, Any]

#: What is true of every robust accuracy, of every share, and of every certified accuracy.
ATTACKED = (
    "Robust accuracy is what the listed attacks left, where doubts and abstentions count as "
    "broken: other attacks may leave less."
)
SHARES = "Shares are those of the texts above; other texts may be harder."
LIMITS = (
    "Certified accuracy is what is proved, and a lower bound of the accuracy under any attack of "
    "that many edits.",
    ATTACKED,
    "Certificates are about the smoothed classifier, which answers by many votes on noisy texts, "
    "not about one pass of the checkpoint.",
    SHARES,
)


def section(facts: Facts) -> str:
    """Return the section as Markdown, without quoting any text.

    Args:
        facts: What `RobustnessReport.to_dict` returns.
    """
    methods = facts["methods"]
    data = methods["data"]
    name = data_of(data)["dataset_name"]
    texts = count(facts["counts"]["texts"], "text")
    parts = [
        "## Certified robustness",
        f"Of {texts} of {name} (split {data['split']}), {facts['measure']} in percent: the share "
        f"that {_what(facts)}, whatever the attacker does within so many {facts['unit']} edits; "
        f"{failure(facts['alpha'])}. {_spread(facts)}",
        _certified_table(facts),
        *([f"Note: {'; '.join(facts['marks'])}."] if facts["marks"] else ()),
        _bullets(facts["summary"]),
        *_scores(facts),
        *_attacks(facts),
        "### Threat model",
        f"{methods['edit']} {methods['attacker']}",
        f"{methods['noise']} {methods['votes']}",
        "### Limits",
        "Certificates do not cover:",
        _bullets(methods["not_covered"]),
        "How to read the numbers:",
        _bullets(LIMITS),
        _made_with(methods),
    ]
    return "\n\n".join(parts)


def uncertified_section(facts: Facts) -> str:
    """Return the section of a run without certificates as Markdown, without quoting any text.

    Args:
        facts: What `uncertified_facts` returns.
    """
    methods = facts["methods"]
    data = methods["data"]
    parts = [
        "## Robustness",
        f"Measured on {data_of(data)['dataset_name']} (split {data['split']}). Nothing is "
        "certified: other perturbations and attacks may do worse.",
        *_scores(facts),
        *_attacks(facts),
        "### Limits",
        _bullets((ATTACKED, SHARES)),
        _made_with(methods),
    ]
    return "\n\n".join(parts)


def _whose(facts: Facts) -> str:
    return "smoothed classifier" if measured_of(facts) == "smoothed" else "classifier"


def _what(facts: Facts) -> str:
    if facts["labelled"]:
        return "is classified correctly and provably stays so"
    return "has a certified answer that provably stays the same"


def _spread(facts: Facts) -> str:
    points = [point for each in facts["attackers"] for point in each["curve"]]
    widest = max((point["high"] - point["low"]) / 2.0 for point in points)
    return f"Intervals over texts like these, at 95 %, reach {100 * widest:.1f} points at most."


def _certified_table(facts: Facts) -> str:
    radii = sorted({radius for each in facts["attackers"] for radius in each["table"]})
    rows = []
    for each in facts["attackers"]:
        shares = {point["radius"]: point["share"] for point in each["curve"]}
        # Beyond the largest radius of an attacker, nothing is certified.
        rows.append([_moves(each), *(f"{100 * shares.get(r, 0.0):.1f}" for r in radii)])
    return _table(["attacker", *(f"radius {r}" for r in radii)], rows)


def _moves(attacker: Facts) -> str:
    moves = ", ".join(NOUNS[move] for move in attacker["attacker"].split("+"))
    return f"{moves} by allowed substitutes" if attacker["allowed_only"] else moves


def _scores(facts: Facts) -> list[str]:
    found = own_scores(facts)
    if not found:
        return []
    texts = count(facts["scores"]["texts"], "text")
    rows = [
        [
            f"`{name}`",
            f"{point['rate']:g}",
            percent(point["accuracy"]["value"]),
            _points(point["score"]),
        ]
        for name, _, point in found
    ]
    return [
        "### Robustness scores",
        f"By how many points the accuracy of the {_whose(facts)} falls when texts are "
        f"perturbed ({texts}; smaller is better; 95 % intervals).",
        _table(["perturbation", "rate", "accuracy", "score"], rows),
    ]


def _attacks(facts: Facts) -> list[str]:
    found = own_attacks(facts)
    if found is None:
        return []
    worst = found["worst_case"]
    rows = [
        [said, percent(worst[name]["value"]), _interval(worst[name])]
        for name, said in (
            ("clean_accuracy", "clean accuracy"),
            ("robust_accuracy", "robust accuracy"),
            ("attack_success_rate", "attack success rate"),
        )
        if worst[name] is not None
    ]
    only = {**facts["attacks"], "classifiers": {measured_of(facts): found}}
    return [
        "### Under attack",
        f"The {_whose(facts)} on {count(worst['examples'], 'text')}, each attacked by "
        f"{', '.join(found['attacks'])}; the worst counts.",
        _table(["", "share", "95 % interval"], rows),
        _bullets(attack_sentences(only)),
    ]


def _made_with(methods: Facts) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in methods["versions"].items())
    return f"Seed {methods['seed']}." + (f" Made with {versions}." if versions else "")


def _points(score: Facts) -> str:
    low, high = 100 * score["low"], 100 * score["high"]
    return f"{100 * score['value']:.1f} [{low:.1f}, {high:.1f}]"


def _interval(share: Facts) -> str:
    return f"{percent(share['low'])} to {percent(share['high'])}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {each}" for each in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(each)} |" for each in cells)
