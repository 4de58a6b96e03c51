"""How many texts a budget of minutes allows: the same number for all methods."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robust_nlp.compare.settings import MEASURINGS, Measuring
from robust_nlp.files import write_whole

#: Texts on which the time of a stage is tried out.
PROBED = 4

#: File of the sizes in the folder of a comparison.
FILE = "sizes.json"

#: Seconds and texts of a stage that was tried out.
Probe = Mapping[str, float]


@dataclass(kw_only=True)
class Sizes:
    """How many texts are measured, and why.

    Attributes:
        budget: Minutes for all measuring; `None` for no limit.
        most: Texts of each stage at most.
        texts: Texts of each stage.
        probes: Seconds and texts of what was tried out, by method and stage.
        minutes: Minutes that all measuring was expected to take; `None` without a budget.
    """

    budget: float | None
    most: dict[Measuring, int]
    texts: dict[Measuring, int] = field(default_factory=dict)
    probes: dict[str, dict[Measuring, Probe]] = field(default_factory=dict)
    minutes: float | None = None

    @classmethod
    def load(cls, folder: Path, budget: float | None, most: Mapping[Measuring, int]) -> Sizes:
        """Return the sizes that were chosen for the same budget and limits, else none yet.

        What was tried out is kept in any case.

        Args:
            folder: Folder of the comparison.
            budget: Minutes.
            most: Texts of each stage at most.
        """
        path, new = folder / FILE, cls(budget=budget, most=dict(most))
        if not path.is_file():
            return new
        found = json.loads(path.read_text(encoding="utf-8"))
        new.probes = found["probes"]
        if (found["budget"], found["most"]) == (budget, dict(most)):
            new.texts, new.minutes = found["texts"], found["minutes"]
        return new

    def save(self, folder: Path) -> None:
        """Write the sizes."""
        text = json.dumps({"schema": 1, **self.to_dict()}, indent=2)
        write_whole(folder / FILE, f"{text}\n".encode())

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes as plain values."""
        return {
            "budget": self.budget,
            "most": self.most,
            "texts": self.texts,
            "minutes": self.minutes,
            "probes": self.probes,
        }

    def choose(self, methods: Mapping[Measuring, Sequence[str]], *, processes: int) -> None:
        """Choose the sizes, from what was tried out if there is a budget.

        Args:
            methods: The methods that each stage measures; one that was not tried out counts as the
                mean of those that were.
            processes: Processes that share the texts.
        """
        if self.budget is None:
            self.texts, self.minutes = dict(self.most), None
            return
        costs = {
            stage: len(methods[stage]) * _mean_cost(self.probes, stage) / processes
            for stage in self.most
        }
        self.texts = share_out(60.0 * self.budget, costs, self.most)
        self.minutes = sum(costs[stage] * n for stage, n in self.texts.items()) / 60.0


def share_out(
    seconds: float, costs: Mapping[Measuring, float], most: Mapping[Measuring, int]
) -> dict[Measuring, int]:
    """Choose how many texts each stage measures in the given time.

    All stages have equal shares of the time. What a stage does not need, since it has no more
    texts, is shared out among the others. None has less than the texts on which it was tried out.

    Args:
        seconds: Seconds for all stages.
        costs: Seconds for one text by all methods, at least 0.
        most: Texts of each stage at most.
    """
    texts: dict[Measuring, int] = {}
    left, open_ = seconds, [stage for stage in MEASURINGS if stage in most]
    while open_:
        share = left / len(open_)
        done = [stage for stage in open_ if costs[stage] * most[stage] <= share]
        for stage in done or open_:
            n = most[stage] if done else math.floor(share / costs[stage])
            texts[stage] = min(most[stage], max(PROBED, n))
            left -= costs[stage] * texts[stage]
        open_ = [stage for stage in open_ if stage not in texts]
    return {stage: texts[stage] for stage in MEASURINGS if stage in texts}


def _mean_cost(probes: Mapping[str, Mapping[Measuring, Probe]], stage: Measuring) -> float:
    """Return the mean seconds for one text over the methods that were tried out."""
    found = [each[stage] for each in probes.values() if stage in each]
    if not found:
        return 0.0
    return sum(probe["seconds"] / probe["texts"] for probe in found) / len(found)
