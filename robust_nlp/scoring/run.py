"""Score the split of a recipe part by part, and say what the rows of a run say."""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from pathlib import Path
from typing import Any

from robust_nlp.errors import RecipeError, RobustNLPWarning
from robust_nlp.recipe import Recipe
from robust_nlp.results import RunDirectory
from robust_nlp.scoring.settings import ScoreRecipe
from robust_nlp.scoring.store import ScoreStore
from robust_nlp.scoring.tables import RobustnessScores
from robust_nlp.scoring.wording import markdown, terminal
from robust_nlp.settings import plain


def score_recipe(
    recipe: Recipe, output: str | Path, *, limit: int | None = None, fresh: bool = False
) -> RunDirectory:
    """Score the classifiers of a recipe on a split, part by part.

    Parts that are on disk are kept. Under `torchrun` or `accelerate launch`, processes share the
    parts. Answers are the same for any number of processes and interruptions.

    Args:
        recipe: The experiment; without a `score` section, the defaults of `ScoreRecipe`.
        output: The run directory.
        limit: Texts at most, in place of the recipe's own limit.
        fresh: Whether to delete the scores that the directory holds.

    Raises:
        RunMismatchError: If the directory holds results of other settings, data or weights.
        RobustNLPError: If data or classifier cannot be used.
    """
    from accelerate.utils import broadcast_object_list

    from robust_nlp import pipeline
    from robust_nlp.data import load_split

    state = pipeline.processes(recipe)
    settings = recipe.score or ScoreRecipe()
    if limit is not None:
        settings = dataclasses.replace(settings, limit=limit)
    if recipe.data.label is None:
        raise RecipeError("scores need labels: say with data.label which column holds them")
    run, store = RunDirectory(output), ScoreStore(output)
    run.check(recipe)
    smoothed = pipeline.load_classifier(
        recipe, run, device=recipe.model.device or str(state.device)
    )
    name = settings.split or recipe.certify.split
    split = load_split(recipe.data, name, label_names=smoothed.labels)
    n_texts = min(len(split), settings.limit or len(split))
    parts: list[Any] = [None]
    if state.is_main_process:
        if not (run.path / "recipe.yaml").is_file():
            run.start(recipe)
        made_with = {
            **_made_with(recipe, settings),
            "data": {"split": name, "content_hash": split.content_hash},
            "classifier": pipeline.classifier_hash(smoothed.base),
            **{key: value["content_hash"] for key, value in recipe.mechanism.contents().items()},
        }
        store.start(made_with, fresh=fresh)
        parts = [pipeline.parts_left(n_texts, settings.part_size, store.parts_done())]
    broadcast_object_list(parts)
    mine = parts[0][state.process_index :: state.num_processes]
    clock = time.perf_counter()
    try:
        _score_parts(recipe, settings, split, smoothed, store, mine)
        state.wait_for_everyone()
    finally:
        if state.is_main_process:
            earlier = run.manifest().get("stages", {}).get("score", {})
            left = pipeline.parts_left(n_texts, settings.part_size, store.parts_done())
            seconds = 0.0 if fresh else earlier.get("seconds", 0.0)
            stage = {
                "seconds": seconds + time.perf_counter() - clock,
                "processes": state.num_processes,
                "limit": settings.limit,
                "labels": smoothed.labels,
                "complete": not left,
            }
            run.update_manifest(stages={"score": stage})
    return run


def load_scores(run: str | Path) -> RobustnessScores | None:
    """Return what the rows of a run say, without any classifier; `None` if there are none.

    Raises:
        DataError: If a part cannot be read.
    """
    stage = RunDirectory(run).manifest().get("stages", {}).get("score", {})
    rows = ScoreStore(run).rows(stage.get("limit"))
    return RobustnessScores.from_rows(rows, stage.get("labels", ())) if rows else None


def scores_beside_certificates(run: str | Path) -> RobustnessScores | None:
    """Return the scores of a run if they are those of the classifier that was certified.

    Others are left out, with a warning.
    """
    certified = RunDirectory(run).manifest().get("classifier", {}).get("content_hash")
    scored = ScoreStore(run).made_with().get("classifier")
    if scored is not None and certified is not None and scored != certified:
        warnings.warn(
            f"the scores in {run} are those of another classifier than the certificates, and the "
            "report leaves them out; score again with --fresh",
            RobustNLPWarning,
            stacklevel=3,
        )
        return None
    return load_scores(run)


def write_scores(run: str | Path) -> str:
    """Write score.json and score.md into a run directory, from its rows.

    Returns:
        The tables as plain text, for the terminal.

    Raises:
        DataError: If there are no scores.
    """
    scores = load_scores(run) or RobustnessScores.from_rows([])
    facts = scores.to_dict()
    facts["made_with"] = ScoreStore(run).made_with()
    stage = RunDirectory(run).manifest().get("stages", {}).get("score", {})
    facts["complete"] = bool(stage.get("complete", True))
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
    (Path(run) / "score.json").write_text(text + "\n", encoding="utf-8")
    (Path(run) / "score.md").write_text(markdown(facts), encoding="utf-8")
    return terminal(facts)


def _made_with(recipe: Recipe, settings: ScoreRecipe) -> dict[str, Any]:
    """What decides the rows, besides data and weights."""
    votes = "smoothed" in settings.classifiers
    return {
        "seed": recipe.seed,
        "classifiers": list(settings.classifiers),
        "perturbations": plain(settings.perturbations),
        "plan": plain(settings.plan) if votes else None,
        "mechanism": recipe.mechanism.to_dict() if votes else None,
        "denoiser": plain(recipe.denoiser) if votes else None,
        "protected": recipe.data.protected,
        "dtype": recipe.model.dtype,
    }


def _score_parts(
    recipe: Recipe,
    settings: ScoreRecipe,
    split: Any,
    smoothed: Any,
    store: ScoreStore,
    parts: list[tuple[int, int]],
) -> None:
    from accelerate.utils import tqdm

    from robust_nlp.scoring.answers import plain as innermost
    from robust_nlp.scoring.rows import score_rows

    known = {"smoothed": smoothed, "plain": innermost(smoothed)}
    classifiers: dict[str, Any] = {name: known[name] for name in settings.classifiers}
    with tqdm(desc="score", total=sum(b - a for a, b in parts), unit="text") as bar:
        for start, stop in parts:
            rows = score_rows(
                classifiers,
                split.texts[start:stop],
                split.labels[start:stop],
                settings.perturbations,
                seed=recipe.seed,
                plan=settings.plan,
                protected=recipe.data.protected,
                first_id=start,
            )
            store.write_part(start, stop, rows)
            bar.update(stop - start)
