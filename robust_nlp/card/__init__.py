"""Model cards for the Hub: what a run measured, as metadata and in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from robust_nlp.card.results import OWN, eval_results
from robust_nlp.card.uncertified import uncertified_facts
from robust_nlp.card.wording import section, uncertified_section
from robust_nlp.errors import DataError
from robust_nlp.report import RobustnessReport
from robust_nlp.results import RunDirectory
from robust_nlp.sharing.readme import metadata

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

__all__ = ["model_card", "write_card"]

#: Between these, a card belongs to us and is written anew; everything else stays as it is.
BEGIN = "<!-- robust-nlp: begin. Written by `robust-nlp card`; changes in here are lost. -->"
END = "<!-- robust-nlp: end -->"


def model_card(
    run: str | Path,
    *,
    alpha: float | None = None,
    radii: Sequence[int] | None = None,
    existing: str | None = None,
) -> str:
    """Return the model card of a run: `model-index` metadata, and a section in words.

    Both hold certified accuracy at each radius against each attacker and, where they were measured
    of the same classifier, robustness scores and robust accuracy under attack. A run without
    certificates, such as that of a plain classifier, has the latter two alone. No model is needed.

    Args:
        run: The run directory.
        alpha: Failure probability of a text's certificates, in `(0, 1)`; `None` takes the plan's.
        radii: Radii in whole edits; `None` takes the recipe's, or 0 up to the largest.
        existing: A card in which the section and our results are replaced or added; everything
            else stays. `None` begins a new one.

    Raises:
        ValueError: If alpha or a radius is out of range.
        DataError: If nothing was measured, or the existing metadata cannot be read.
    """
    if RunDirectory(run).rows():
        facts = RobustnessReport.load(run, alpha).to_dict(radii)
        said = section(facts)
    else:
        facts = uncertified_facts(run)
        said = uncertified_section(facts)
    written = f"{BEGIN}\n\n{said}\n\n{END}"
    if existing is None:
        data, text = metadata(), f"\n# {facts['name']}\n\n{written}\n"
    else:
        data, text = _parsed(existing)
        text = _with_section(text, written)
    _add_results(data, facts)
    return f"---\n{data.to_yaml(line_break=chr(10))}\n---\n{text}"


def write_card(
    run: str | Path, *, alpha: float | None = None, radii: Sequence[int] | None = None
) -> Path:
    """Write the card of a run into README.md, beside the trained model if there is one.

    A card that is there is kept, but for our section and results; see `model_card`.

    Args:
        run: The run directory.
        alpha: See `model_card`.
        radii: See `model_card`.

    Returns:
        The path of the card.
    """
    directory = RunDirectory(run)
    path = (directory.model if directory.model.is_dir() else directory.path) / "README.md"
    existing = path.read_text(encoding="utf-8") if path.is_file() else None
    card = model_card(run, alpha=alpha, radii=radii, existing=existing)
    path.write_text(card, encoding="utf-8")
    return path


def _parsed(card: str) -> tuple[ModelCardData, str]:
    import yaml
    from huggingface_hub import ModelCard

    try:
        parsed = ModelCard(card)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise DataError(
            f"the metadata of the existing card cannot be read: {error}. Mend or delete them."
        ) from error
    shared, data = metadata(), cast("ModelCardData", parsed.data)
    data.library_name = data.library_name or shared.library_name
    data.pipeline_tag = data.pipeline_tag or shared.pipeline_tag
    data.tags = list(dict.fromkeys([*(data.tags or ()), *(shared.tags or ())]))
    return data, parsed.text


def _with_section(text: str, written: str) -> str:
    ours = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if ours.search(text):
        return ours.sub(lambda _: written, text, count=1)
    return f"{text.rstrip()}\n\n{written}\n"


def _add_results(data: ModelCardData, facts: dict[str, Any]) -> None:
    """Put our results into the metadata, in place of those of an earlier run on the same data."""
    new = eval_results(facts)
    if not new:
        return
    data.model_name = data.model_name or facts["name"]
    names = {(each.unique_identifier, each.metric_name) for each in new}
    where = {each.unique_identifier for each in new}
    data.eval_results = [
        each
        for each in data.eval_results or ()
        if (each.unique_identifier, each.metric_name) not in names
        and not (each.metric_type in OWN and each.unique_identifier in where)
    ] + new
