"""The report of a study: study.json, study.md, and the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_nlp.files import write_whole
from robust_nlp.reporting.findings import markdown, origin, terminal
from robust_nlp.reporting.tables import Table
from robust_nlp.settings import to_yaml
from robust_nlp.study.facts import study_facts
from robust_nlp.study.results import StudyResults
from robust_nlp.study.tables import study_tables
from robust_nlp.study.words import cautions, findings, title


def write_study(results: StudyResults, output: Path) -> str:
    """Write study.json and study.md.

    Args:
        results: The measured runs.
        output: Folder of the study.

    Returns:
        Findings and tables for the terminal.
    """
    facts = study_facts(results)
    facts |= {
        "title": title(facts),
        "findings": findings(facts),
        "cautions": cautions(facts),
        **origin(),
    }
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    write_whole(output / "study.json", f"{text}\n".encode())
    write_whole(output / "study.md", _markdown(facts).encode())
    return terminal(facts, _tables(facts))


def _tables(facts: Mapping[str, Any]) -> list[Table]:
    return [table for table in study_tables(facts) if table.rows]


def _markdown(facts: Mapping[str, Any]) -> str:
    recipe = facts["recipe"]
    variants = {each["variant"]: each["changes"] for each in facts["variants"]}
    shared = {name: recipe[name] for name in ("model", "data", "mechanism", "train", "certify")}
    measured = {name: value for name, value in recipe["study"].items() if name != "variants"}
    return markdown(
        facts,
        _tables(facts),
        where="study.json has every number of every run.",
        hosts=facts["hosts"],
        recipes={
            "What variants replace": to_yaml(variants),
            "What they replace it in, and what is measured": to_yaml({**shared, "study": measured}),
        },
    )
