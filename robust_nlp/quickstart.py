"""The quickstart: train, certify and compare small classifiers without any network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from textwrap import fill

from robust_nlp.compare.drive import compare_methods
from robust_nlp.compare.words import findings
from robust_nlp.recipe import load_recipe
from robust_nlp.report import write_report


def run(output: Path, overrides: Sequence[str] = ()) -> str:
    """Train a plain and a deletion-trained classifier, certify both, and compare.

    The deletion-trained classifier is the plain one, fine-tuned further under deletion. They are
    compared with each other and with the plain one as it is, without votes.

    Args:
        output: Folder of the comparison and its runs; what is done there already is kept.
        overrides: Entries of the recipe to replace, such as "certify.limit=20".

    Returns:
        What came out, for the terminal.
    """
    with resources.as_file(resources.files("robust_nlp") / "resources/quickstart.yaml") as path:
        recipe = load_recipe(path, overrides)
    compare_methods(recipe, output)
    facts = json.loads((output / "compare.json").read_text(encoding="utf-8"))
    lines = [f"{title}\n{write_report(output / name)}" for name, title in _TITLES.items()]
    said = findings({**facts, "fronts": []})  # which are in the report
    lines.append("\n".join(["Side by side:", *(fill(f"- {each}", 100) for each in said)]))
    lines.append(
        f"The whole comparison: {output / 'report.html'}\nOne by one: "
        + " and ".join(str(output / name / "report.html") for name in _TITLES)
        + "\nYour own model and data: copy a file of recipes/, name them there, and run\n"
        "  robust-nlp train RECIPE && robust-nlp certify RECIPE && robust-nlp report runs/NAME"
    )
    return "\n\n".join(lines)


_TITLES = {
    "plain": "Fine-tuned the ordinary way, then smoothed by deletion:",
    "deletion": "The same, fine-tuned further under the deletion that it is smoothed with:",
}
