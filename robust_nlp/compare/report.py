"""The report of a comparison: a page, compare.json, .md, .csv and .tex, and the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_nlp.attacks.wording import write_attacks
from robust_nlp.compare.contradictions import contradictions
from robust_nlp.compare.facts import comparison_facts, told_radius
from robust_nlp.compare.lengths import length_facts
from robust_nlp.compare.page import render
from robust_nlp.compare.recipes import made_with
from robust_nlp.compare.results import Comparison
from robust_nlp.compare.sandwich import sandwiches
from robust_nlp.compare.schema import ComparisonFile
from robust_nlp.compare.tables import comparison_tables, in_csv, in_latex
from robust_nlp.compare.texts import text_facts
from robust_nlp.compare.words import cautions, findings, title
from robust_nlp.errors import DataError
from robust_nlp.files import write_whole
from robust_nlp.report import write_report
from robust_nlp.reporting.findings import markdown, origin, terminal
from robust_nlp.reporting.tables import Table
from robust_nlp.scoring.run import write_scores

#: Files of the page and of all numbers in the folder of a comparison.
PAGE, FACTS = "report.html", "compare.json"


def write_comparison(found: Comparison, output: Path) -> str:
    """Write report.html, compare.json, .md, .csv and .tex, and the methods' own reports.

    Args:
        found: What the methods' runs hold.
        output: Folder of the comparison.

    Returns:
        Findings and tables for the terminal.
    """
    for method in found.methods:
        if method.scores is not None:
            write_scores(method.run.path)
        if method.attacks is not None:
            write_attacks(method.run.path)
        if method.report is not None:
            write_report(method.run.path)
    facts = all_facts(found)
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    # The page is made from what is written, so that it can be made again from compare.json alone.
    page = render(json.loads(text))
    tables = comparison_tables(facts)
    latex = "\n\n".join(map(in_latex, tables))
    for name, content in (
        (FACTS, f"{text}\n"),
        ("compare.md", _markdown(facts, tables)),
        ("compare.csv", in_csv(facts)),
        ("compare.tex", f"{latex}\n"),
        (PAGE, page),
    ):
        write_whole(output / name, content.encode())
    return terminal(facts, tables)


def write_page(folder: Path) -> Path:
    """Write report.html anew from compare.json alone, without runs, data or models.

    Args:
        folder: Folder of the comparison.

    Returns:
        The page.

    Raises:
        DataError: If compare.json cannot be read, or has another layout.
    """
    file = folder / FACTS
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        ComparisonFile.model_validate(facts)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file} is not a comparison that this version reads: {str(error)[:200]}. Compare "
            "again: what was measured is kept"
        ) from error
    write_whole(folder / PAGE, render(facts).encode())
    return folder / PAGE


def all_facts(found: Comparison) -> dict[str, Any]:
    """Return everything that compare.json holds; see `robust_nlp.compare.schema`."""
    facts = comparison_facts(found)
    pictures = sandwiches(found)
    return facts | {
        "title": title(facts),
        "findings": findings(facts),
        "cautions": cautions(facts),
        "sandwiches": pictures,
        "contradictions": contradictions(facts["methods"], pictures),
        "lengths": length_facts(found, radius=told_radius(found.recipe.report.radii)),
        "examples": text_facts(found),
        **origin(),
    }


def _markdown(facts: Mapping[str, Any], tables: Sequence[Table]) -> str:
    made = made_with(facts)
    return markdown(
        facts,
        tables,
        hosts=[made["host"]] if made["host"] else [],
        where="compare.json has every number; each method's folder is a run of its own.",
        recipes={
            "Methods, and what they replace": made["methods"],
            "What they replace it in, and what is measured": made["shared"],
        },
    )
