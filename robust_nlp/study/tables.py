"""Tables of a study, for the terminal and for Markdown."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from robust_nlp.reporting.terminal import WIDTH
from robust_nlp.study.facts import WORST
from robust_nlp.study.values import certified_name

#: Domains in one table.
DOMAINS = 7

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


def study_tables(facts: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a study: by domain, against the control, robustness and cost."""
    return [*_domains(facts), _differences(facts), _robustness(facts)]


def in_terminal(table: Table) -> str:
    """Write a table for the terminal."""
    shown = RichTable(box=SIMPLE_HEAD, safe_box=True, pad_edge=False)
    for k, head in enumerate(table.header):
        shown.add_column(Text(head), justify="right" if k else "left", vertical="bottom")
    for row in table.rows:
        shown.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, legacy_windows=False)
    console.print(shown)
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    return "\n".join([textwrap.fill(table.title, WIDTH), *lines])


def in_markdown(table: Table) -> str:
    """Write a table in Markdown."""
    head = [name.replace("\n", " ") for name in table.header]
    lines = [_row(head), _row(["---", *["--:"] * (len(head) - 1)])]
    return "\n".join([f"**{table.title}**", "", *lines, *map(_row, table.rows)])


def percent(share: float | None) -> str:
    """Write a share in percent, without the sign."""
    return NOTHING if share is None else f"{100.0 * share:.1f}"


def points(difference: float | None) -> str:
    """Write a difference of two shares in points of percent."""
    return NOTHING if difference is None else f"{100.0 * difference:+.1f}"


def between(interval: Sequence[float] | None) -> str:
    """Write an interval of a difference in points of percent."""
    return NOTHING if interval is None else f"[{points(interval[0])}, {points(interval[1])}]"


def _domains(facts: Mapping[str, Any]) -> Iterable[Table]:
    """Say the accuracy in each held-out domain, a few domains at a time."""
    domains = facts["domains"]
    for start in range(0, len(domains), DOMAINS):
        part = domains[start : start + DOMAINS]
        yield Table(
            title="Accuracy in each held-out domain, mean over seeds, in %",
            header=["variant", *part, "average", "worst"],
            rows=[
                [
                    variant["variant"],
                    *(percent(variant["domains"][domain]["accuracy"]) for domain in part),
                    percent(variant["averages"]["accuracy"]),
                    percent(variant["averages"][WORST]),
                ]
                for variant in facts["variants"]
            ],
        )


def _differences(facts: Mapping[str, Any]) -> Table:
    rows = []
    for variant in facts["variants"]:
        for measure, short in (("accuracy", "average"), (WORST, "worst domain")):
            found = variant["differences"].get(measure)
            if found is not None:
                rows.append(
                    [
                        variant["variant"],
                        short,
                        points(found["difference"]),
                        between(found["over_seeds"]),
                        between(found["over_texts"]),
                        "yes" if found["clear"] else "no",
                    ]
                )
    return Table(
        title=f"Accuracy in held-out domains less that of {facts['control']}, in points of percent",
        header=["variant", "", "difference", "95 %\nseeds", "95 %\ntest texts", "clear"],
        rows=rows,
    )


def _robustness(facts: Mapping[str, Any]) -> Table:
    heads = {
        "seen_accuracy": "domains\nseen",
        "deleted_accuracy": "words\ndeleted",
        "robustness_score": "score",
        **{certified_name(radius): f"certified\nr = {radius}" for radius in facts["radii"]},
        "attacked_accuracy": "attacked",
    }
    measures = [measure for measure in heads if measure in facts["measures"]]
    return Table(
        title=f"Accuracy in the domains of training, robustness in held-out ones, in %; cost of "
        f"training as a multiple of that of {facts['control']}",
        header=["variant", *(heads[measure] for measure in measures), "time", "texts\nread"],
        rows=[
            [
                variant["variant"],
                *(percent(variant["averages"][measure]) for measure in measures),
                _times(variant["cost"]["relative_seconds"]),
                _times(variant["cost"]["relative_texts_read"]),
            ]
            for variant in facts["variants"]
        ],
    )


def _times(factor: float | None) -> str:
    return NOTHING if factor is None else f"{factor:.2f}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
