"""The attacks of a run in tables and sentences."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_nlp.errors import DataError
from robust_nlp.files import write_whole
from robust_nlp.reporting.words import agree, count
from robust_nlp.results import RunDirectory
from robust_nlp.scoring.settings import READINGS
from robust_nlp.scoring.wording import WIDTH, drawn, estimate, line

#: Folder of attacks in a run directory; it has one folder a classifier.
FOLDER = "attacks"

#: File that says what attacks were made with, beside their summary and their rows.
CONTEXT = "context.json"

METHODS = (
    "Robust accuracy counts texts that are classified rightly and that no attack of the suite "
    "broke; attacks that are not in the suite may leave less. A find counts "
    "when the judge confirms it; where the judge is left in doubt, the text counts as broken, and "
    "as unbroken in the lenient column. The strict column believes only searches that came to "
    "their end: those stopped by a limit or an error count as broken. The column in search "
    "believes whatever the search saw, which is often reported, and which noise alone can lower. "
    "The score is clean less robust accuracy, in points. Brackets are 95 % intervals (Wilson). "
    "Words changed are the edit distance of successful attacks in words, not places that differ."
)

_Table = tuple[list[str], list[list[str]]]


def attack_facts(run: str | Path) -> dict[str, Any] | None:
    """Return what the attacks of a run came to, as plain values; `None` if there were none.

    Raises:
        DataError: If a file cannot be read.
    """
    classifiers = {}
    for name in READINGS:
        folder = Path(run) / FOLDER / name
        if not (folder / CONTEXT).is_file():
            continue
        try:
            summary, context = (
                json.loads((folder / file).read_text(encoding="utf-8"))
                for file in ("summary.json", CONTEXT)
            )
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {folder}: {error}. Attack again.") from error
        classifiers[name] = {**summary, **context}
    return {"methods": METHODS, "classifiers": classifiers} if classifiers else None


def attacks_beside_certificates(run: str | Path) -> dict[str, Any] | None:
    """Return the attacks of a run on the classifier that was certified; `None` without any."""
    certified = RunDirectory(run).manifest().get("classifier", {}).get("content_hash")
    facts = attack_facts(run)
    if facts is None:
        return None
    same = {n: f for n, f in facts["classifiers"].items() if f["classifier"] == certified}
    return {**facts, "classifiers": same} if same else None


def worst_table(facts: Mapping[str, Any]) -> _Table:
    """Return the table of accuracies when every attack may be tried on every text."""
    head = ["classifier", "texts", "clean %", "robust %", "score", "lenient %", "strict %"]
    head += ["in search %"]
    rows = []
    for name, found in facts["classifiers"].items():
        worst = found["worst_case"]
        rows.append(
            [
                name,
                str(worst["examples"]),
                estimate(worst["clean_accuracy"]),
                estimate(worst["robust_accuracy"]),
                estimate(worst["robustness_score"], points=True),
                *(
                    _percent(worst[f"{which}_accuracy{how}"])
                    for which, how in (
                        ("robust", "_lenient"),
                        ("robust", "_strict"),
                        ("in_search", ""),
                    )
                ),
            ]
        )
    return head, rows


def effort_table(facts: Mapping[str, Any]) -> _Table:
    """Return the table of what each attack did and cost."""
    head = ["attack", "classifier", "attacked", "success %", "in doubt", "stopped"]
    head += ["words changed", "questions", "forwards", "s"]
    names = dict.fromkeys(a for found in facts["classifiers"].values() for a in found["attacks"])
    rows = []
    for attack in names:
        for name, found in facts["classifiers"].items():
            did = found["attacks"].get(attack)
            if did is None:
                continue
            outcomes = did["outcomes"]
            edits = did["edits"]
            rows.append(
                [
                    attack,
                    name,
                    str(did["examples"] - outcomes.get("skipped", 0)),
                    _percent(did["attack_success_rate"]),
                    str(outcomes.get("uncertain", 0)),
                    str(sum(outcomes.get(each, 0) for each in ("budget", "timeout", "error"))),
                    "–" if edits is None else f"{edits['median']:.0f}",
                    *(
                        "–" if did[cost] is None else f"{did[cost]:,.{places}f}"
                        for cost, places in (("queries", 0), ("forwards", 0), ("seconds", 2))
                    ),
                ]
            )
    return head, rows


def certified_table(facts: Mapping[str, Any]) -> _Table:
    """Return certified accuracies of the attacked texts, beside which robust accuracy stands."""
    beside = _beside(facts)
    if beside is None:
        return ["attacker"], []
    shares = beside["certified_accuracy"]
    radii = sorted({int(r) for each in shares.values() for r in each})[:9]
    rows = [
        [name, *(f"{100 * each.get(str(r), 0.0):.1f}" for r in radii)]
        for name, each in shares.items()
    ]
    return ["certified accuracy %, against", *(f"r={r}" for r in radii)], rows


def sentences(facts: Mapping[str, Any]) -> list[str]:
    """Say what the detectors saw, those that are flagged first, and whether certificates held."""
    lines = []
    beside = _beside(facts)
    if beside is not None:
        lines.append(_held(beside))
    for name, found in facts["classifiers"].items():
        for finding in sorted(found["findings"], key=lambda each: not each["flagged"]):
            mark = "Careful, " if finding["flagged"] else ""
            lines.append(f"{mark}{name} classifier: {finding['words']}")
    return lines


def write_attacks(run: str | Path) -> str:
    """Write attacks.json and attacks.md into a run directory, from what attacks left there.

    Returns:
        Tables and findings as plain text, for the terminal.

    Raises:
        DataError: If there are no attacks, or they cannot be read.
    """
    facts = attack_facts(run)
    if facts is None:
        raise DataError(f"{run} holds no attacks; run `robust-nlp attack` on its recipe first")
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(Path(run) / "attacks.json", (text + "\n").encode())
    write_whole(Path(run) / "attacks.md", markdown(facts).encode())
    return terminal(facts)


def tables(facts: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return all tables that have rows, each with its title and head."""
    found = (
        ("Worst case over all attacks", *worst_table(facts)),
        ("Attack by attack, means per attacked text", *effort_table(facts)),
        ("What was certified of the attacked texts", *certified_table(facts)),
    )
    return [table for table in found if table[2]]


def terminal(facts: Mapping[str, Any]) -> str:
    """Return tables and findings as plain text."""
    lines = [textwrap.fill(METHODS, WIDTH)]
    for title, head, rows in tables(facts):
        lines += ["", title, *drawn(head, rows)]
    for each in sentences(facts):
        lines += ["", textwrap.fill(each, WIDTH)]
    return "\n".join(lines)


def markdown(facts: Mapping[str, Any]) -> str:
    """Return tables and findings as Markdown."""
    lines = ["# Attacks", "", METHODS, ""]
    for title, head, rows in tables(facts):
        lines += [f"## {title}", "", line(head), line(["---"] * len(head)), *map(line, rows), ""]
    lines += ["## Findings", "", *(f"- {each}" for each in sentences(facts)), ""]
    return "\n".join(lines)


def _beside(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    found: dict[str, Any] | None = facts["classifiers"].get("smoothed", {}).get("certificates")
    return found


def _held(beside: Mapping[str, Any]) -> str:
    """Say whether confirmed finds contradict certificates."""
    wrong = len({each["example_id"] for each in beside["contradictions"]})
    said = (
        f"Certificates: {count(beside['texts'], 'attacked text')} "
        f"{agree(beside['texts'], 'has', 'have')} certificates, and "
        f"{count(beside['compared'], 'confirmed find')} "
        f"{agree(beside['compared'], 'was', 'were')} held against them: {wrong:,} inside a "
        "certified radius"
    )
    if not wrong:
        return f"{said}."
    if beside["held"]:
        return f"{said}; alpha allows up to {beside['allowed']:,}."
    return f"{said}, more than alpha allows ({beside['allowed']:,}): a certificate is wrong."


def _percent(found: Mapping[str, float] | None) -> str:
    return "–" if found is None else f"{100.0 * found['value']:.1f}"
