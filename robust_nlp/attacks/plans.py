"""What an attack runs with: what is there, what stands in, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from robust_nlp.attacks.needs import NEEDS, NEVER, RECIPES, STAND_INS, Given
from robust_nlp.errors import DataError
from robust_nlp.home import neighbour_file
from robust_nlp.swaps import SwapSetting, load_swaps


class Plan(NamedTuple):
    """What a recipe runs with.

    Attributes:
        stand_ins: Keys of `STAND_INS` that are used.
        lacks: Keys of `NEEDS` that are missing, with nothing that stands in.
        labels: What the results are named after.
    """

    stand_ins: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    def title(self, name: str) -> str:
        """Return the name of a recipe in all results, such as "textfooler[minilm]"."""
        return f"{name}[{', '.join(self.labels)}]" if self.labels else name


def plan(recipe: str, given: Given) -> Plan:
    """Look up what a recipe needs, and choose what it runs with.

    Args:
        recipe: Name of TextAttack's class, or "a2t"; others need nothing that is known.
        given: What the user gives.
    """
    used: dict[str, None] = {}
    lacks: dict[str, None] = {}
    for name in RECIPES.get(recipe, ()):
        stand_in = NEEDS[name].stand_in
        wanted = stand_in == "masked-lm" and given.masked_lm is not None
        if not wanted and NEEDS[name].find(given) is not None:
            continue
        allowed = wanted or given.stand_ins == "missing" or stand_in == "own-stop-words"
        if stand_in is None or not allowed:
            lacks[name] = None
            continue
        missing = [need for need in STAND_INS[stand_in].needs if NEEDS[need].find(given) is None]
        if missing:
            lacks |= dict.fromkeys([name, *missing])
        else:
            used[stand_in] = None
    labels = [label(name, given) for name in used] if not lacks else []
    return Plan(tuple(used), tuple(lacks), tuple(labels))


def check(name: str, recipe: str, given: Given) -> Plan:
    """Return the plan of a recipe that can run.

    Raises:
        DataError: If it cannot; the message says what is missing, and what brings it.
    """
    if recipe in NEVER:
        raise DataError(f"the attack {name!r} cannot run: it {NEVER[recipe]}")
    found = plan(recipe, given)
    if found.lacks:
        leave = "or leave it out: attacks: [deepwordbug] needs none of this"
        raise DataError("\n".join([f"the attack {name!r} lacks", *advice(found, given), leave]))
    return found


def require(what: str, *needs: str) -> None:
    """Raise DataError, with what brings them, unless all needs are there."""
    lacks = tuple(need for need in needs if NEEDS[need].find(Given()) is None)
    if lacks:
        raise DataError("\n".join([f"{what} lacks", *advice(Plan(lacks=lacks), None)]))


def advice(found: Plan, given: Given | None) -> list[str]:
    """Return a line for each thing that is missing, and one about stand-ins that are not used.

    Args:
        found: The plan.
        given: What the user gave, `None` if nothing may stand in.
    """
    lines = [f"- {NEEDS[name].what}. Get it with: {NEEDS[name].command}" for name in found.lacks]
    stand_ins = [NEEDS[name].stand_in for name in found.lacks]
    if given is not None and given.stand_ins == "never" and any(stand_ins):
        what = ", ".join(dict.fromkeys(STAND_INS[name].what for name in stand_ins if name))
        lines.append(
            f"or let other things stand in, which the results then say: stand_ins: missing ({what})"
        )
    return lines


def label(stand_in: str, given: Given) -> str:
    """Return what names of results say about a stand-in."""
    if stand_in == "neighbours":
        return f"neighbours-{most_neighbours(given.swaps)}"
    if stand_in == "masked-lm":
        return f"mlm-{Path(str(given.masked_lm)).resolve().name}"
    return stand_in


def most_neighbours(swaps: SwapSetting | None) -> int:
    """Return the largest number of neighbours of a word, in a table or the installed one."""
    table = load_swaps(str(neighbour_file()) if swaps is None else swaps)
    return max((len(table.of(word)) for word in table.words), default=0)
