"""The report of a study: study.json, study.md, and the terminal."""

from __future__ import annotations

import json
import shlex
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_nlp import environment
from robust_nlp.files import write_whole
from robust_nlp.reporting.terminal import WIDTH
from robust_nlp.settings import to_yaml
from robust_nlp.study.facts import study_facts
from robust_nlp.study.results import StudyResults
from robust_nlp.study.tables import in_markdown, in_terminal, study_tables
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
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": environment.versions(),
        "git_commit": environment.git_commit(),
    }
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    write_whole(output / "study.json", f"{text}\n".encode())
    write_whole(output / "study.md", markdown(facts).encode())
    return terminal(facts)


def terminal(facts: Mapping[str, Any]) -> str:
    """Return findings, tables and cautions as plain text."""
    said = [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in facts["findings"]]
    shown = [in_terminal(table) for table in study_tables(facts) if table.rows]
    notes = [textwrap.fill(line, WIDTH) for line in facts["cautions"]]
    return "\n\n".join([facts["title"], "\n".join(said), *shown, "\n".join(notes)])


def markdown(facts: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    recipe = facts["recipe"]
    study = recipe["study"]
    variants = {each["variant"]: each["changes"] for each in facts["variants"]}
    shared = {name: recipe[name] for name in ("model", "data", "mechanism", "train", "certify")}
    measured = {name: value for name, value in study.items() if name != "variants"}
    return (
        "\n\n".join(
            [
                f"# {facts['title']}",
                "\n".join(f"- {line}" for line in facts["findings"]),
                *(in_markdown(table) for table in study_tables(facts) if table.rows),
                "## How to read it",
                "\n".join(f"- {line}" for line in facts["cautions"]),
                "## How it was made",
                f"`{facts['command']}`, commit {facts['git_commit'] or 'unknown'}; "
                + ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
                + ". study.json has every number of every run.",
                f"What variants replace:\n\n```yaml\n{to_yaml(variants)}```",
                f"What they replace it in, and what is measured:\n\n```yaml\n"
                f"{to_yaml({**shared, 'study': measured})}```",
            ]
        )
        + "\n"
    )
