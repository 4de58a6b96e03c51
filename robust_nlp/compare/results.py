"""What the run directories of a comparison hold, without any model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyarrow import parquet

from robust_nlp.attacks.report import AttackReport
from robust_nlp.attacks.rows import AttackRow
from robust_nlp.attacks.wording import CONTEXT, FOLDER, attack_facts
from robust_nlp.compare.methods import MethodRun
from robust_nlp.compare.settings import Measuring
from robust_nlp.compare.sizes import Sizes
from robust_nlp.compare.timing import read_times
from robust_nlp.data import Split
from robust_nlp.errors import DataError, RunMismatchError
from robust_nlp.recipe import Recipe
from robust_nlp.report import RobustnessReport
from robust_nlp.reporting.breakdown import class_name
from robust_nlp.scoring.measured import Measured
from robust_nlp.scoring.run import load_scores
from robust_nlp.scoring.store import ScoreStore
from robust_nlp.settings import plain


@dataclass(frozen=True, kw_only=True)
class MethodResults:
    """What is known of one method.

    Attributes:
        run: The method and its run.
        missing: Why something is not known, by stage.
        scores: Facts of its scores; see `RobustnessScores.to_dict`.
        measured: The answers under its scores, as those of a classifier of the method's name.
        report: Its certificates; `None` without any, as for a plain classifier.
        attacks: Facts of its attacks; see `attack_facts`.
        attacked: Rows of its attacks.
        timing: What an answer takes; see `time_answers`.
    """

    run: MethodRun
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, Any] | None = None
    measured: Measured | None = None
    report: RobustnessReport | None = None
    attacks: Mapping[str, Any] | None = None
    attacked: AttackReport | None = None
    timing: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.run.name

    @classmethod
    def load(cls, run: MethodRun, sizes: Mapping[Measuring, int]) -> MethodResults:
        """Read what there is of a method for so many texts.

        Raises:
            DataError: If a file cannot be read.
        """
        try:
            run.directory.check(run.recipe)
        except RunMismatchError as error:
            return cls(run=run, missing=dict.fromkeys(sizes, str(error).splitlines()[0]))
        missing: dict[str, str] = {}
        values: dict[str, Any] = {"timing": read_times(run.path)}
        for stage, size in sizes.items():
            if not run.measures(stage):
                continue
            why = unfinished(run, stage, size)
            if why is not None:
                missing[stage] = why
            elif stage == "score":
                scores = load_scores(run.path)
                assert scores is not None
                (measured,) = scores.measured
                values["scores"] = scores.to_dict()
                values["measured"] = dataclasses.replace(measured, classifier=run.name)
            elif stage == "certify":
                values["report"] = RobustnessReport.load(run.path)
            else:
                values |= _attacks(run)
        return cls(run=run, missing=missing, **values)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All methods of a comparison.

    Attributes:
        recipe: The recipe with its comparison.
        methods: What is known of each method, in the order of the recipe.
        split: The texts.
        sizes: How many of them were measured.
        left_out: Why stages were left out, by stage.
        processes: Processes that shared the work of the last call.
    """

    recipe: Recipe
    methods: Sequence[MethodResults]
    split: Split
    sizes: Sizes
    left_out: Mapping[str, str]
    processes: int = 1

    @classmethod
    def load(
        cls,
        recipe: Recipe,
        runs: Sequence[MethodRun],
        split: Split,
        sizes: Sizes,
        left_out: Mapping[str, str],
        processes: int = 1,
    ) -> Comparison:
        """Read the run directories.

        Raises:
            DataError: If a file cannot be read, or methods were not measured on the same texts.
        """
        methods = _numbered_alike([MethodResults.load(run, sizes.texts) for run in runs])
        _check_same_texts(methods)
        return cls(
            recipe=recipe,
            methods=methods,
            split=split,
            sizes=sizes,
            left_out=left_out,
            processes=processes,
        )


def unfinished(run: MethodRun, stage: Measuring, size: int) -> str | None:
    """Say why a stage of a run cannot be compared, `None` if it can.

    Args:
        run: The method and its run.
        stage: What was measured of it.
        size: On how many texts it must have been.
    """
    directory, recipe = run.directory, run.recipe
    done = directory.manifest().get("stages", {}).get(stage)
    if done is None:
        return "not measured yet"
    if not done["complete"]:
        return "not finished"
    other = f"measured in another way than on {size:,} texts with the present settings"
    if stage == "certify":
        before = directory.recipe().certify
        same = before.limit == size and before.split == recipe.certify.split
        return None if same else other
    if stage == "score":
        assert recipe.score is not None
        made = ScoreStore(run.path).made_with()
        now = {
            "seed": recipe.seed,
            "perturbations": plain(recipe.score.perturbations),
            "classifiers": list(recipe.score.classifiers),
            "plan": plain(recipe.score.plan) if run.method.smoothed else None,
            "mechanism": recipe.mechanism.to_dict() if run.method.smoothed else None,
            "denoiser": plain(recipe.denoiser),
        }
        same = done["limit"] == size and json.loads(json.dumps(now)).items() <= made.items()
        return None if same else other
    path = run.path / FOLDER / run.reading / CONTEXT
    settings = plain(dataclasses.replace(recipe.attack, limit=size))  # type: ignore[type-var]
    if not path.is_file():
        return "not measured yet"
    before_ = json.loads(path.read_text(encoding="utf-8"))["settings"]
    return None if before_ == json.loads(json.dumps(settings)) else other


def _attacks(run: MethodRun) -> dict[str, Any]:
    facts = attack_facts(run.path)
    assert facts is not None
    path = run.path / FOLDER / run.reading / "rows.parquet"
    rows: dict[str, list[AttackRow]] = {}
    for row in parquet.read_table(path).to_pylist():
        rows.setdefault(row["attack"], []).append(AttackRow(**row))
    return {
        "attacks": facts["classifiers"][run.reading],
        "attacked": AttackReport(rows=rows, findings=[]),
    }


@dataclass(frozen=True)
class _Read:
    """What a stage of a method measured: texts, their classes by number, and by name."""

    texts: list[Any]
    numbers: list[int | None]
    names: list[str | None]

    @classmethod
    def of(
        cls, texts: Iterable[Any], numbers: Iterable[int | None], labels: Sequence[str]
    ) -> _Read:
        numbers = list(numbers)
        return cls(list(texts), numbers, [class_name(labels, number) for number in numbers])

    def same(self, other: _Read) -> bool:
        """Tell whether texts and classes are the same; classifiers may number classes otherwise."""
        return self.texts == other.texts and (
            self.numbers == other.numbers or self.names == other.names
        )


def _check_same_texts(methods: Sequence[MethodResults]) -> None:
    """Raise DataError unless each stage measured the same texts, with the same labels."""
    for what, read in (
        ("scored", {m.name: _scored(m) for m in methods if m.measured}),
        ("certified", {m.name: _certified(m) for m in methods if m.report}),
        ("attacked", {m.name: _attacked(m) for m in methods if m.attacked}),
    ):
        names = list(read)
        for name in names[1:]:
            if not read[name].same(read[names[0]]):
                raise DataError(
                    f"{names[0]} and {name} were {what} on different texts or labels, and cannot "
                    f"be compared; make {name} again with --only {name} --fresh. If {name} brings "
                    "a classifier of its own, it must name its classes as the others do."
                )


def _numbered_alike(methods: Sequence[MethodResults]) -> list[MethodResults]:
    """Return the methods with the classes of scored texts in the order of the first of them."""
    measured = [method for method in methods if method.measured is not None]
    return [_renumbered(method, measured[0]) if measured else method for method in methods]


def _renumbered(method: MethodResults, first: MethodResults) -> MethodResults:
    found = method.measured
    if found is None or _scored(method).numbers == _scored(first).numbers:
        return method
    own, labels = _labels(method), _labels(first)
    if sorted(own) != sorted(labels):
        return method
    place = np.array([labels.index(name) for name in own])
    clean, curves = found.clean, found.curves
    changed = dataclasses.replace(
        found,
        labels=place[found.labels],
        clean=clean.renumbered(place),
        curves={
            name: {rate: cell.renumbered(place) for rate, cell in curve.items()}
            for name, curve in curves.items()
        },
    )
    assert method.scores is not None
    return dataclasses.replace(
        method, measured=changed, scores={**method.scores, "labels": list(labels)}
    )


def _labels(method: MethodResults) -> list[str]:
    return [] if method.scores is None else list(method.scores["labels"])


def _scored(method: MethodResults) -> _Read:
    assert method.measured is not None
    found = method.measured
    return _Read.of(found.examples, found.labels.tolist(), _labels(method))


def _certified(method: MethodResults) -> _Read:
    assert method.report is not None
    texts = method.report.texts
    labels = method.report.manifest.get("labels", [])
    return _Read.of(((t.example_id, t.text_hash) for t in texts), (t.label for t in texts), labels)


def _attacked(method: MethodResults) -> _Read:
    assert method.attacked is not None
    rows = method.attacked.worst()
    labels = (method.attacks or {}).get("labels", [])
    texts = ((row.example_id, row.text, row.pair) for row in rows)
    return _Read.of(texts, (row.label for row in rows), labels)
