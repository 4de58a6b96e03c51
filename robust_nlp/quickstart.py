"""The quickstart: train, certify and compare two small classifiers without any network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from robust_nlp import pipeline
from robust_nlp.recipe import load_recipe
from robust_nlp.report import write_report

#: What the plain classifier is trained with instead: no noise.
PLAIN = (
    "name=quickstart-plain",
    "train.noise=false",
    "train.rates=null",
)


def run(output: Path, overrides: Sequence[str] = ()) -> str:
    """Train a plain and a deletion-trained classifier, certify both, and write their reports.

    The deletion-trained classifier is the plain one, fine-tuned further under deletion.

    Args:
        output: Folder of the two runs; what is done there already is kept.
        overrides: Entries of both recipes to replace, such as "certify.limit=20".

    Returns:
        What came out, for the terminal.
    """
    lines = []
    with resources.as_file(resources.files("robust_nlp") / "resources/quickstart.yaml") as path:
        recipes = {
            "plain": load_recipe(path, [*PLAIN, *overrides]),
            "deletion": load_recipe(
                path,
                [
                    "name=quickstart-deletion",
                    f"model.base={output / 'plain' / 'model'}",
                    *overrides,
                ],
            ),
        }
    for name, recipe in recipes.items():
        folder = output / name
        pipeline.train(recipe, folder)
        pipeline.certify(recipe, folder)
        lines.append(f"{_TITLES[name]}\n{write_report(folder)}")
    lines.append(
        "Reports: " + " and ".join(str(output / name / "report.html") for name in recipes) + "\n"
        "Your own model and data: copy a file of recipes/, name them there, and run\n"
        "  robust-nlp train RECIPE && robust-nlp certify RECIPE && robust-nlp report runs/NAME"
    )
    return "\n\n".join(lines)


_TITLES = {
    "plain": "Fine-tuned the ordinary way, then smoothed by deletion:",
    "deletion": "The same, fine-tuned further under the deletion that it is smoothed with:",
}
