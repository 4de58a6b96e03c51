"""What each attack has, what it lacks, and what brings it. No model and no attack is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from robust_nlp.attacks.needs import NEEDS, NEVER, RECIPES, STAND_INS, Given
from robust_nlp.attacks.plans import Plan, plan
from robust_nlp.attacks.settings import NAMES
from robust_nlp.errors import DataError, did_you_mean

#: Our names of all recipes of TextAttack that run against a classifier, and of those that do not.
ATTACKS = {
    **{name: "a2t" if name == "a2t" else theirs for name, theirs in NAMES.items()},
    "input-reduction": "InputReductionFeng2018",
    **{theirs: theirs for theirs in NEVER},
}


_REDUCTION = (
    "run by robust_nlp.attacks.reduce_inputs; it keeps the class, and says nothing about robustness"
)


class Diagnosis(NamedTuple):
    """What one attack has and lacks.

    Attributes:
        name: Our name of it.
        recipe: Its name in the table of needs.
        itself: What it runs with as it is published.
        helped: What it runs with if other things may stand in.
    """

    name: str
    recipe: str
    itself: Plan
    helped: Plan

    @property
    def runs(self) -> bool:
        """Whether it runs as it is published."""
        return self.recipe not in NEVER and not self.itself.lacks

    @property
    def runs_helped(self) -> bool:
        """Whether it runs if other things may stand in."""
        return self.recipe not in NEVER and not self.helped.lacks


def diagnose(names: Sequence[str] = (), given: Given | None = None) -> list[Diagnosis]:
    """Look up what attacks have and lack.

    Args:
        names: Our names of attacks, or those of TextAttack's classes; none for all.
        given: The table of neighbours and the masked language model that may stand in.

    Raises:
        DataError: If there is no such attack.
    """
    given = given or Given()
    never = Given(swaps=given.swaps)
    helped = dataclasses.replace(given, stand_ins="missing")
    return [
        Diagnosis(name, recipe, plan(recipe, never), plan(recipe, helped))
        for name, recipe in (_known(name) for name in names or ATTACKS)
    ]


def report(found: Iterable[Diagnosis], *, width: int | None = None) -> str:
    """Return a table of attacks, what brings what is missing, and which never run, as text.

    Args:
        found: What `diagnose` returned.
        width: Columns of the terminal; `None` for those of this one.
    """
    found = list(found)
    table = Table()
    for head in ("attack", "as published", "with stand-ins"):
        table.add_column(head, overflow="fold")
    for each in found:
        table.add_row(Text(each.name), Text(_itself(each)), Text(_helped(each)))
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(table)
    lines = [obstacle() or f"TextAttack {metadata.version('textattack')}", capture.get().rstrip()]
    lacks = dict.fromkeys(
        need
        for each in found
        if each.recipe not in NEVER
        for need in (*each.itself.lacks, *each.helped.lacks, *_silent(each))
    )
    for need in lacks:
        known = NEEDS[need]
        lines += [f"{need}: {known.what}", f"  get it with: {known.command}"]
        if known.stand_in:
            lines.append(f"  may stand in: {STAND_INS[known.stand_in].what}")
    if any(each.recipe == "InputReductionFeng2018" for each in found):
        lines.append(f"input-reduction: {_REDUCTION}")
    lines += [f"{each.name}: {NEVER[each.recipe]}" for each in found if each.recipe in NEVER]
    return "\n".join(lines)


def _known(name: str) -> tuple[str, str]:
    if name in ATTACKS:
        return name, ATTACKS[name]
    for ours, theirs in ATTACKS.items():
        if name == theirs:
            return ours, theirs
    raise DataError(
        f"there is no attack {name!r}; there is {', '.join(ATTACKS)}.{did_you_mean(name, ATTACKS)}"
    )


def _silent(each: Diagnosis) -> list[str]:
    """Return needs for which something stands in without being asked."""
    return [n for n in RECIPES[each.recipe] if NEEDS[n].stand_in in each.itself.stand_ins]


def _itself(each: Diagnosis) -> str:
    if each.recipe in NEVER:
        return "never runs"
    if each.itself.lacks:
        return f"lacks {', '.join(each.itself.lacks)}"
    return "runs" if not each.itself.labels else f"runs as {each.itself.title(each.name)}"


def _helped(each: Diagnosis) -> str:
    if each.recipe in NEVER:
        return "never runs"
    if each.helped.lacks:
        return f"lacks {', '.join(each.helped.lacks)}"
    return "the same" if each.runs else f"runs as {each.helped.title(each.name)}"


def obstacle() -> str | None:
    """Say what keeps TextAttack itself from being imported, `None` if nothing is known."""
    if find_spec("textattack") is None:
        return (
            "TextAttack is not installed, so that no attack runs yet. Install it with: "
            'pip install "robust-nlp[attack]"'
        )
    release = metadata.version("transformers")
    if int(release.split(".")[0]) >= 5:
        return (
            f"TextAttack cannot be imported beside transformers {release}, so that no attack runs: "
            "it needs a release below 5 (use an environment of its own)"
        )
    return None
