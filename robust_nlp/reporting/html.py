"""The page of a report: one file, without scripts and without anything from the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from robust_nlp.reporting import charts, words
from robust_nlp.reporting.attacked import attacked
from robust_nlp.reporting.scored import scored

#: Entries of a setting, such as a user's own dictionary of swaps, that the page lists at most.
LISTED = 20

#: Radii that the chart of all attackers shows, at most, as multiples of the first one's largest.
SHOWN = 3


def render(facts: Mapping[str, Any]) -> str:
    """Return the page that shows the facts of a report."""
    unit, measure, attackers = facts["unit"], facts["measure"], facts["attackers"]
    reach = SHOWN * ((attackers[0]["largest_radius"] or 0) + 1)
    cut = [a["attacker"] for a in attackers if (a["largest_radius"] or 0) >= reach]
    return template("report.html.j2").render(
        facts,
        cut=cut,
        overview=charts.accuracy_chart(
            "overview", attackers, unit=unit, measure=measure, band=False, largest=reach
        ),
        first=charts.accuracy_chart("first", attackers[:1], unit=unit, measure=measure, band=True),
        lengths_chart=charts.length_chart(facts["lengths"], unit=unit),
        bar=charts.bar_segments(facts["outcomes"]),
        scored=None if facts["scores"] is None else scored(facts["scores"]),
        attacked=None if facts["attacks"] is None else attacked(facts["attacks"]),
    )


def template(name: str) -> Template:
    """Return a template of the package, with what all pages have in common.

    Everything that a template is given is escaped: texts, names and settings are untrusted.

    Args:
        name: File name of the template.
    """
    environment = Environment(
        loader=PackageLoader("robust_nlp"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=lambda share: "–" if share is None else words.percent(share),
        whole=lambda number: "–" if number is None else f"{number:,}",
        duration=words.duration,
        probability=_probability,
        quantity=lambda number: f"{number:.3g}",
        rate=lambda number: f"{number:,.0f}" if number >= 100.0 else f"{number:.3g}",
        said=_said,
        tight=lambda cell: cell.replace(", ", ",\N{NO-BREAK SPACE}"),
        unbroken=lambda line: line.replace(" %", "\N{NO-BREAK SPACE}%"),
    )
    environment.globals.update(count=words.count, span=charts.span)
    return environment.get_template(name)


def _probability(value: float) -> str:
    """Round a lower bound down, so that what is printed still holds."""
    return f"{int(value * 10_000) / 10_000:.4f}"


def _listed(items: Sequence[str]) -> str:
    shown = ", ".join(items[:LISTED])
    return shown if len(items) <= LISTED else f"{shown}, … ({len(items):,} in all)"


def _said(value: Any) -> str:
    """Write a setting on one line."""
    if isinstance(value, Mapping):
        return _listed([f"{key} {_said(item)}" for key, item in value.items()]) or "–"
    if isinstance(value, list | tuple):
        return _listed([_said(item) for item in value]) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value is None or value == "" else str(value)
