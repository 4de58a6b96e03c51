"""A report as plain text for the terminal."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robust_nlp.reporting import words
from robust_nlp.reporting.besides import sentences

#: Columns of the terminal.
WIDTH = 100


def terminal_table(facts: Mapping[str, Any]) -> str:
    """Return title, summary, certified accuracy by radius and attacker, and what else is proved."""
    attackers: Sequence[Mapping[str, Any]] = facts["attackers"]
    unit = facts["unit"]
    table = Table(box=SIMPLE_HEAD, safe_box=True, pad_edge=False)
    table.add_column(Text("radius"), justify="right")
    for attacker in attackers:
        moves = attacker["attacker"].replace("+", "\n")
        moves += "\nby allowed\nsubstitutes" if attacker["allowed_only"] else ""
        table.add_column(Text(f"{moves}\n({unit} edits)"), justify="right", vertical="bottom")
    curves = [{point["radius"]: point for point in a["curve"]} for a in attackers]
    for radius in sorted({radius for a in attackers for radius in a["table"]}):
        points = [curve.get(radius) for curve in curves]
        cells = [words.percent(point["share"] if point else 0.0) for point in points]
        table.add_row(str(radius), *cells)
    summary = [textwrap.fill(line, WIDTH) for line in facts["summary"]]
    heading = f"{facts['measure'].capitalize()} by attacker"
    text = [facts["title"], "", *summary, "", heading, *lines_of(table)]
    if besides := sentences(facts):
        text += ["Proved besides"]
        text += [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in besides]
    if facts["audit"]:
        text += ["Audit", *(textwrap.fill(line, WIDTH) for line in facts["audit"]["sentences"])]
    return "\n".join(text)


def lines_of(table: Table) -> list[str]:
    """Return the lines of a table, without colours."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, legacy_windows=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]
