"""Measure a trained run: answers to clean, thinned, noisy and attacked test texts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robust_nlp import pipeline
from robust_nlp.augmentation.adversarial import AdversarialExamples
from robust_nlp.base_classifier import Text, parts
from robust_nlp.data import Split
from robust_nlp.files import write_whole
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.recipe import Recipe
from robust_nlp.results import RunDirectory
from robust_nlp.study.runs import StudyRun, study_of
from robust_nlp.study.texts import DomainTexts, with_deletions
from robust_nlp.training.selection import answers
from robust_nlp.units import text_key


def measure(
    recipe: Recipe,
    run: StudyRun,
    test: Split,
    chosen: DomainTexts,
    state: Any,
    texts_file: Path,
    *,
    again: bool = False,
) -> list[dict[str, Any]]:
    """Return what the model of a run makes of each test text; call it in all processes.

    Args:
        recipe: The recipe with its study.
        run: The run, trained.
        test: The test split.
        chosen: Which of its rows are measured.
        state: The `accelerate.PartialState` of the processes, which share the texts.
        texts_file: Where `write_texts` wrote those of the held-out domain.
        again: Whether to delete certificates that are there, and not to go on with them.

    Returns:
        Rows of `robust_nlp.study.measured.ANSWERS`, the held-out domain first.

    Raises:
        MissingExtraError: If TextAttack is needed and is not installed.
        ModelError: If the model cannot be used.
    """
    study = study_of(recipe)
    directory = RunDirectory(run.path)
    device = run.recipe.model.device or str(state.device)
    base: Any = pipeline.load_classifier(run.recipe, directory, device=device).base
    assert test.labels is not None
    rows = [*chosen.held_out, *(i for each in chosen.seen.values() for i in each)]
    texts = [test.texts[i] for i in rows]
    n_held_out = len(chosen.held_out)
    found = _shared_answers(base, texts, state)
    deleted: list[list[int]] = [[] for _ in rows]
    if study.deleted is not None:
        versions = with_deletions(
            texts[:n_held_out],
            study.deleted,
            draws=study.draws,
            seed=recipe.seed,
            protected=run.recipe.data.protected,
        )
        flat = _shared_answers(base, [version for each in versions for version in each], state)
        for k in range(n_held_out):
            deleted[k] = flat[k * study.draws : (k + 1) * study.draws]
    result: list[dict[str, Any]] = [
        {
            "row": i,
            "text_hash": text_key(*parts(test.texts[i])),
            "domain": None if test.domains is None else test.domains[i],
            "held_out": k < n_held_out,
            "label": test.labels[i],
            "answer": found[k],
            "deleted_answers": deleted[k],
            "certified": False,
            "smoothed_answer": None,
            "radius": None,
            "attack": None,
            "queries": None,
        }
        for k, i in enumerate(rows)
    ]
    if study.certify is not None:
        certified = pipeline.certify(
            _certification(run, texts_file, study.certify), run.path / "certified", fresh=again
        )
        for row, record in zip(result, certified.rows(), strict=False):
            row.update(certified=True, smoothed_answer=record["predicted"], radius=record["radius"])
    if study.attack is not None:
        n = min(study.attack.limit, n_held_out)
        attacked = AdversarialExamples(
            study.attack.adversarial, seed=recipe.seed, protected=run.recipe.data.protected
        ).generate(
            base,
            texts[:n],
            [test.labels[i] for i in rows[:n]],
            folder=run.path / "attacked",
            example_ids=rows[:n],
            processes=state,
        )
        for row, attack in zip(result, attacked, strict=False):
            row.update(attack=attack.outcome, queries=attack.queries)
    return result


def write_texts(path: Path, recipe: Recipe, test: Split, rows: Sequence[int]) -> None:
    """Write test rows as a file that certification reads.

    Args:
        path: The file, JSON Lines.
        recipe: Names the columns.
        test: The test split, with labels.
        rows: Which of its rows.
    """
    data, lines = recipe.data, []
    assert test.labels is not None
    assert test.label_names is not None
    for i in rows:
        first, *second = parts(test.texts[i])
        row: dict[str, Any] = {data.text: first}
        if data.pair is not None:
            row[data.pair] = second[0]
        if data.label is not None:
            row[data.label] = test.label_names[test.labels[i]]
        if data.domain is not None and test.domains is not None:
            row[data.domain] = test.domains[i]
        lines.append(json.dumps(row) + "\n")
    write_whole(path, "".join(lines).encode())


def _certification(run: StudyRun, texts_file: Path, limit: int) -> Recipe:
    """Return the recipe that certifies the first texts of a file with the model of a run."""
    recipe = run.recipe
    data = dataclasses.replace(
        recipe.data,
        path=None,
        config=None,
        revision=None,
        files={"held-out": str(texts_file)},
        hold_out=(),
        validate_on=(),
    )
    model = str(RunDirectory(run.path).model)
    certify = dataclasses.replace(recipe.certify, split="held-out", limit=limit, model=model)
    return dataclasses.replace(recipe, data=data, certify=certify)


def _shared_answers(base: HuggingFaceClassifier, texts: Sequence[Text], state: Any) -> list[int]:
    """Return the answers to texts as they are; processes share the work and all get all."""
    from accelerate.utils import gather_object

    mine = range(state.process_index, len(texts), state.num_processes)
    found = answers(base, [texts[i] for i in mine]).tolist() if mine else []
    known = dict(gather_object(list(zip(mine, found, strict=True))))
    return [known[i] for i in range(len(texts))]
