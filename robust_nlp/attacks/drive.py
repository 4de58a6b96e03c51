"""Attack the classifiers of a recipe on a split, and keep what came of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

from robust_nlp.attacks.certified import beside_certificates
from robust_nlp.attacks.settings import AttackRecipe
from robust_nlp.attacks.stage import identity
from robust_nlp.attacks.suite import run_attacks
from robust_nlp.attacks.wording import CONTEXT, FOLDER
from robust_nlp.augmentation.textattack_import import textattack_version
from robust_nlp.errors import RecipeError
from robust_nlp.files import write_whole
from robust_nlp.recipe import Recipe
from robust_nlp.reporting.texts import CertifiedText, certify_rows
from robust_nlp.results import RunDirectory
from robust_nlp.scoring.answers import plain as innermost
from robust_nlp.settings import plain


def attack_recipe(
    recipe: Recipe, output: str | Path, *, limit: int | None = None, fresh: bool = False
) -> RunDirectory:
    """Attack the classifiers of a recipe with the recipes of TextAttack.

    Rows that are on disk are kept: an interrupted run goes on after its last examples. Under
    `torchrun` or `accelerate launch`, processes share the examples. Rows are the same for any
    number of processes and interruptions. Where the run has certificates of the same classifier
    and texts, finds are held against them; see `beside_certificates`.

    Args:
        recipe: The experiment; without an `attack` section, the defaults of `AttackRecipe`.
        output: The run directory.
        limit: Texts at most, in place of the recipe's own limit.
        fresh: Whether to delete the attacks that the directory holds.

    Raises:
        MissingExtraError: If TextAttack cannot be imported.
        RunMismatchError: If the directory holds results of other settings or weights.
        RobustNLPError: If data or classifier cannot be used, or an attack lacks a resource.
    """
    from robust_nlp import pipeline
    from robust_nlp.data import load_split

    textattack_version()  # before anything is loaded for it
    state = pipeline.processes(recipe)
    settings = recipe.attack or AttackRecipe()
    if limit is not None:
        settings = dataclasses.replace(settings, limit=limit)
    if recipe.data.label is None:
        raise RecipeError("attacks need labels: say with data.label which column holds them")
    run = RunDirectory(output)
    run.check(recipe)
    smoothed = pipeline.load_classifier(
        recipe, run, device=recipe.model.device or str(state.device)
    )
    split = load_split(recipe.data, settings.split, label_names=smoothed.labels)
    if state.is_main_process:
        if fresh:
            shutil.rmtree(run.path / FOLDER, ignore_errors=True)
        if not (run.path / "recipe.yaml").is_file():
            run.start(recipe)
    state.wait_for_everyone()
    victims = {"smoothed": smoothed, "plain": innermost(smoothed)}
    whole = pipeline.classifier_hash(smoothed.base)
    certified = _certificates(run, settings.split, whole, split.content_hash)
    clock = time.perf_counter()
    for name in settings.classifiers:
        folder = run.path / FOLDER / name
        victim: Any = victims[name]
        report = run_attacks(
            victim,
            split,
            settings,
            folder,
            seed=recipe.seed,
            model=_votes(recipe, whole) if name == "smoothed" else pipeline.classifier_hash(victim),
            protected=recipe.data.protected,
            processes=state,
        )
        if state.is_main_process:
            beside = None
            if name == "smoothed" and certified:
                beside = beside_certificates(smoothed, report.rows, certified, alpha=settings.alpha)
            context = {
                "settings": plain(settings),
                "seed": recipe.seed,
                "labels": smoothed.labels,
                "classifier": whole,
                "data": {"split": settings.split, "content_hash": split.content_hash},
                "certificates": beside,
            }
            text = json.dumps(context, indent=2, ensure_ascii=False)
            write_whole(folder / CONTEXT, (text + "\n").encode())
    if state.is_main_process:
        earlier = {} if fresh else run.manifest().get("stages", {}).get("attack", {})
        stage = {
            "seconds": earlier.get("seconds", 0.0) + time.perf_counter() - clock,
            "processes": state.num_processes,
            "limit": settings.limit,
            "complete": True,
        }
        run.update_manifest(stages={"attack": stage})
    return run


def _votes(recipe: Recipe, classifier: str) -> str:
    """Return what decides the votes of the smoothed classifier, as a key."""
    contents = recipe.mechanism.contents()
    return identity(
        classifier=classifier,
        mechanism=recipe.mechanism.to_dict(),
        contents={name: content["content_hash"] for name, content in contents.items()},
        denoiser=plain(recipe.denoiser),
    )


def _certificates(
    run: RunDirectory, split: str, classifier: str, content: str
) -> list[CertifiedText]:
    """Return the certificates of the same classifier and texts; none if there are none."""
    manifest = run.manifest()
    same = manifest.get("classifier", {}).get("content_hash") == classifier
    data = manifest.get("data", {})
    if not same or data.get("content_hash") != content:
        return []
    recipe = run.recipe()
    if recipe.certify.split != split:
        return []
    return certify_rows(
        run.rows(),
        recipe.mechanism,
        alpha=recipe.certify.plan.alpha,
        attackers=recipe.certify.attackers,
    )
