"""What reports of several runs have in common: findings, tables, and how they were made."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from robust_nlp import environment
from robust_nlp.reporting.tables import Table, in_markdown, in_terminal
from robust_nlp.reporting.terminal import WIDTH


def origin() -> dict[str, Any]:
    """Return the command, the versions and the commit that make a report."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": environment.versions(),
        "git_commit": environment.git_commit(),
    }


def terminal(facts: Mapping[str, Any], tables: Iterable[Table]) -> str:
    """Return findings, tables and cautions as plain text."""
    said = [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in facts["findings"]]
    notes = [textwrap.fill(line, WIDTH) for line in facts["cautions"]]
    shown = map(in_terminal, tables)
    return "\n\n".join([facts["title"], "\n".join(said), *shown, "\n".join(notes)])


def markdown(
    facts: Mapping[str, Any],
    tables: Iterable[Table],
    *,
    where: str,
    recipes: Mapping[str, str],
    hosts: Iterable[Mapping[str, Any]] = (),
) -> str:
    """Return the report as Markdown.

    Args:
        facts: Title, findings, cautions, and what `origin` returned.
        tables: The tables.
        where: Where all numbers are, in a sentence.
        recipes: YAML of what was run, by what it is.
        hosts: The machines.
    """
    made = [f"`{facts['command']}`, commit {facts['git_commit'] or 'unknown'}"]
    made += ["; ".join(f"{name} {value}" for name, value in host.items()) for host in hosts]
    made.append(", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    parts = [
        f"# {facts['title']}",
        "\n".join(f"- {line}" for line in facts["findings"]),
        *map(in_markdown, tables),
        "## How to read it",
        "\n".join(f"- {line}" for line in facts["cautions"]),
        "## How it was made",
        f"{'; '.join(made)}. {where}",
        *(f"{what}:\n\n```yaml\n{text}```" for what, text in recipes.items()),
    ]
    return "\n\n".join(parts) + "\n"
