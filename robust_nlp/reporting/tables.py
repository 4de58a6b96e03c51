"""Tables of reports, for the terminal and for Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from robust_nlp.reporting.terminal import WIDTH, lines_of

NOTHING = "–"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a report.

    Attributes:
        title: What it shows.
        header: Heads of the columns, the first of names, the others of numbers; lines may break.
        rows: Cells, as texts.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def in_terminal(table: Table) -> str:
    """Write a table for the terminal."""
    shown = RichTable(box=SIMPLE_HEAD, safe_box=True, pad_edge=False)
    for k, head in enumerate(table.header):
        shown.add_column(Text(head), justify="right" if k else "left", vertical="bottom")
    for row in table.rows:
        shown.add_row(*map(Text, row))
    return "\n".join([textwrap.fill(table.title, WIDTH), *lines_of(shown)])


def in_markdown(table: Table) -> str:
    """Write a table in Markdown."""
    head = [name.replace("\n", " ") for name in table.header]
    lines = [_row(head), _row(["---", *["--:"] * (len(head) - 1)])]
    return "\n".join([f"**{table.title}**", "", *lines, *map(_row, table.rows)])


def percent(share: float | None) -> str:
    """Write a share in percent, without the sign."""
    return NOTHING if share is None else f"{100.0 * share:.1f}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
