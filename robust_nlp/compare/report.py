"""The report of a comparison: compare.json, .md, .csv and .tex, and the terminal."""

from __future__ import annotations

import json
import shlex
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_nlp import environment
from robust_nlp.attacks.wording import write_attacks
from robust_nlp.compare.facts import comparison_facts
from robust_nlp.compare.results import Comparison
from robust_nlp.compare.tables import comparison_tables, in_csv, in_latex
from robust_nlp.compare.words import cautions, findings, title
from robust_nlp.files import write_whole
from robust_nlp.report import write_report
from robust_nlp.reporting.terminal import WIDTH
from robust_nlp.scoring.run import write_scores
from robust_nlp.settings import to_yaml
from robust_nlp.study.tables import in_markdown, in_terminal


def write_comparison(found: Comparison, output: Path) -> str:
    """Write compare.json, compare.md, compare.csv and compare.tex, and the methods' own reports.

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
    facts = comparison_facts(found)
    facts |= {
        "title": title(facts),
        "findings": findings(facts),
        "cautions": cautions(facts),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": environment.versions(),
        "git_commit": environment.git_commit(),
    }
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    latex = "\n\n".join(in_latex(table) for table in comparison_tables(facts))
    for end, content in (
        ("json", f"{text}\n"),
        ("md", markdown(facts)),
        ("csv", in_csv(facts)),
        ("tex", f"{latex}\n"),
    ):
        write_whole(output / f"compare.{end}", content.encode())
    return terminal(facts)


def terminal(facts: Mapping[str, Any]) -> str:
    """Return findings, tables and cautions as plain text."""
    said = [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in facts["findings"]]
    shown = [in_terminal(table) for table in comparison_tables(facts)]
    notes = [textwrap.fill(line, WIDTH) for line in facts["cautions"]]
    return "\n\n".join([facts["title"], "\n".join(said), *shown, "\n".join(notes)])


def markdown(facts: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    recipe = facts["recipe"]
    compared = {**recipe["compare"], "methods": None}
    methods = recipe["compare"]["methods"]
    shared = {
        name: recipe[name]
        for name in ("model", "data", "mechanism", "denoiser", "train", "certify", "score")
    }
    hosts = [method["cost"]["host"] for method in facts["methods"] if method["cost"]["host"]]
    host: Mapping[str, Any] = hosts[0] if hosts else {}
    return (
        "\n\n".join(
            [
                f"# {facts['title']}",
                "\n".join(f"- {line}" for line in facts["findings"]),
                *(in_markdown(table) for table in comparison_tables(facts)),
                "## How to read it",
                "\n".join(f"- {line}" for line in facts["cautions"]),
                "## How it was made",
                f"`{facts['command']}`, commit {facts['git_commit'] or 'unknown'}; "
                + "; ".join(f"{name} {value}" for name, value in host.items())
                + "; "
                + ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
                + ". compare.json has every number; each method's folder is a run of its own.",
                f"Methods, and what they replace:\n\n```yaml\n{to_yaml(methods)}```",
                "What they replace it in, and what is measured:\n\n```yaml\n"
                f"{to_yaml({**shared, 'attack': recipe['attack'], 'compare': compared})}```",
            ]
        )
        + "\n"
    )
