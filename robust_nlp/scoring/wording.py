"""Robustness scores as a table for the terminal and as Markdown."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robust_nlp.reporting.words import count

#: Columns of the terminal.
WIDTH = 100

METHODS = (
    "The robustness score is clean accuracy less accuracy under the perturbation, in points: "
    "smaller is better, and below 0 the perturbation helps. An abstention counts as wrong. "
    "Brackets are 95 % intervals for texts drawn like these that pair each text with its own "
    "versions (Wilson; Newcombe's method 10; several versions of a text count by how much they "
    "differ, not as texts of their own). p is exact and two-sided: how likely so large a "
    "difference would be if the clean text were like any of its versions (with one version "
    "McNemar's test); it is not corrected for how many are made. The area is the mean accuracy "
    "over rates from 0 to the largest. Importance of words is for the right label, on the "
    "classifier without noise: without the least important words, texts may be answered better. "
    "The empty text counts as a text."
)


def estimate(found: Mapping[str, float] | None, *, points: bool = False) -> str:
    """Write a value with its interval in percent, or in points."""
    if found is None:
        return "–"
    value, low, high = (100.0 * found[name] + 0.0 for name in ("value", "low", "high"))
    sign = "+" if points else ""
    return f"{value:{sign}.1f} [{low:.1f}, {high:.1f}]"


def p_value(p: float) -> str:
    """Write a p-value."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def score_table(facts: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the table of all scores."""
    head = ["perturbation", "rate", "classifier", "accuracy %", "score", "p", "abstains %"]
    rows = []
    for name in facts["classifiers"]:
        clean = facts["clean"][name]
        share = f"{100 * clean['abstained']:.1f}"
        rows.append(["none", "0", name, estimate(clean["accuracy"]), "", "", share])
    for perturbation in facts["perturbations"]:
        curves = [c for c in facts["scores"] if c["perturbation"] == perturbation]
        for i in range(len(curves[0]["points"])):
            for curve in curves:
                point = curve["points"][i]
                rows.append(
                    [
                        perturbation,
                        f"{point['rate']:g}",
                        curve["classifier"],
                        estimate(point["accuracy"]),
                        estimate(point["score"], points=True),
                        p_value(point["p_value"]),
                        f"{100 * point['abstained']:.1f}",
                    ]
                )
    return head, rows


def curve_table(facts: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the table of whole curves: area, and the mean score over rates."""
    head = ["perturbation", "rates to", "classifier", "area %", "mean score"]
    rows = [
        [
            curve["perturbation"],
            f"{curve['largest_rate']:g}",
            curve["classifier"],
            estimate(curve["area"]),
            estimate(curve["mean_score"], points=True),
        ]
        for curve in sorted(
            facts["scores"], key=lambda c: facts["perturbations"].index(c["perturbation"])
        )
    ]
    return head, rows


def group_table(facts: Mapping[str, Any], groups: str) -> tuple[list[str], list[list[str]]]:
    """Return the table of scores at the largest rate by "lengths" or "classes"."""
    first = "words" if groups == "lengths" else "class"
    head = ["perturbation", "rate", "classifier", first, "texts", "clean %", "score"]
    rows = []
    for curve in facts["scores"]:
        for group in curve[groups]:
            point = group["points"][-1]
            rows.append(
                [
                    curve["perturbation"],
                    f"{point['rate']:g}",
                    curve["classifier"],
                    group["class"]
                    if groups == "classes"
                    else f"{group['shortest']}–{group['longest']}",
                    str(group["texts"]),
                    estimate(group["clean_accuracy"]),
                    estimate(point["score"], points=True),
                ]
            )
    return head, rows


def answered_table(facts: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the table of scores without abstentions; no rows if nobody abstains."""
    head = ["perturbation", "rate", "classifier", "texts", "accuracy of answers %", "score"]
    abstaining = {
        curve["classifier"]
        for curve in facts["scores"]
        if any(point["abstained"] > 0.0 for point in curve["points"])
    } | {name for name, clean in facts["clean"].items() if clean["abstained"] > 0.0}
    rows = []
    for curve in facts["scores"]:
        for point in curve["points"] if curve["classifier"] in abstaining else ():
            only = point["answered_only"]
            rows.append(
                [
                    curve["perturbation"],
                    f"{point['rate']:g}",
                    curve["classifier"],
                    str(only["texts"]) if only else "0",
                    estimate(only["accuracy"] if only else None),
                    estimate(only["score"] if only else None, points=True),
                ]
            )
    return head, rows


def comparison_table(facts: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the table of differences between classifiers; no rows for one classifier."""
    head = ["perturbation", "rate", "first − second", "accuracy", "p", "score", "p of score"]
    rows = []
    for row in facts["comparisons"]:
        if "accuracy" not in row:
            continue
        scored = "score" in row
        rows.append(
            [
                row["perturbation"],
                f"{row['rate']:g}",
                f"{row['first']} − {row['second']}",
                estimate(row["accuracy"], points=True),
                p_value(row["accuracy_p_value"]),
                estimate(row["score"], points=True) if scored else "",
                p_value(row["score_p_value"]) if scored else "",
            ]
        )
    return head, rows


def terminal(facts: Mapping[str, Any]) -> str:
    """Return scores and areas as plain text."""
    lines = [f"Robustness scores on {count(facts['texts'], 'text')}", ""]
    lines.append(textwrap.fill(METHODS, WIDTH))
    for title, table in (
        ("Scores by rate", score_table(facts)),
        ("Whole curves", curve_table(facts)),
    ):
        lines += ["", title, *drawn(*table)]
    return "\n".join(lines)


def markdown(facts: Mapping[str, Any]) -> str:
    """Return all tables as Markdown."""
    lines = ["# Robustness scores", "", f"{count(facts['texts'], 'text')}.", "", METHODS, ""]
    for title, (head, rows) in (
        ("Scores by rate", score_table(facts)),
        ("Whole curves", curve_table(facts)),
        ("Without abstentions", answered_table(facts)),
        ("Classifiers compared", comparison_table(facts)),
        ("By length, at the largest rate", group_table(facts, "lengths")),
        ("By class, at the largest rate", group_table(facts, "classes")),
    ):
        if rows:
            lines += [f"## {title}", "", line(head), line(["---"] * len(head))]
            lines += [*map(line, rows), ""]
    return "\n".join(lines)


def line(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def drawn(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines for the terminal; a first cell like the one above is left empty."""
    table = Table(box=SIMPLE_HEAD, safe_box=True, pad_edge=False)
    for name in head:
        table.add_column(Text(name), overflow="fold")
    before = None
    for row in rows:
        again = row[0] == before
        table.add_row(*(Text("" if again and i == 0 else cell) for i, cell in enumerate(row)))
        before = row[0]
    console = Console(file=io.StringIO(), width=WIDTH + 20, color_system=None, legacy_windows=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]
