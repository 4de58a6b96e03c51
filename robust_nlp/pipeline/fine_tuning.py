"""Train the classifier or the denoiser of a recipe, once, into its run directory."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robust_nlp import environment
from robust_nlp.data import Split, load_split
from robust_nlp.denoising import MaskedLMSettings
from robust_nlp.errors import RecipeError, RunMismatchError
from robust_nlp.pipeline.loading import load_classifier
from robust_nlp.pipeline.processes import processes
from robust_nlp.recipe import Recipe
from robust_nlp.results import RunDirectory, Stage

logger = logging.getLogger(__name__)


def train(recipe: Recipe, output: str | Path, *, fresh: bool = False) -> RunDirectory:
    """Fine-tune the classifier of a recipe and write it to the run directory.

    A complete training is kept; an interrupted one goes on from its last checkpoint.

    Args:
        recipe: The experiment.
        output: The run directory.
        fresh: Whether to delete model, checkpoints and certificates that the directory holds.

    Raises:
        RunMismatchError: If the directory holds results of other settings.
        RobustNLPError: If data or model cannot be used.
    """
    from robust_nlp.training.run import train as fine_tune

    run = RunDirectory(output)
    if not fresh:
        run.check(recipe, stage="train")
    split, validation = training_splits(recipe)
    data = _data_hashes(recipe, split, validation, noise=recipe.train.noise)
    if _needed(run, "train", data, run.model if run.trained else None, fresh=fresh):
        named = {"labels": split.label_names}
        with _recorded(run, recipe, "train", data, fresh=fresh, **named) as stage:
            stage |= fine_tune(recipe, split, validation, run.path)
    return run


def training_splits(recipe: Recipe) -> tuple[Split, Split]:
    """Read the texts of training and of validation, without the domains that are held out.

    Raises:
        DataError: If they cannot be read, or nothing is left.
    """
    data, options = recipe.data, recipe.train
    split = load_split(data, options.train_split)
    validation = load_split(data, options.validation_split, label_names=split.label_names)
    unseen = [*data.hold_out, *data.validate_on]
    if unseen:
        split = split.without(unseen)
    if data.validate_on:
        return split, validation.only(data.validate_on)
    return split, validation.without(data.hold_out) if data.hold_out else validation


def train_denoiser(recipe: Recipe, output: str | Path, *, fresh: bool = False) -> RunDirectory:
    """Train the denoiser of a recipe and write it to the run directory.

    A complete training is kept; an interrupted one goes on from its last checkpoint.

    Args:
        recipe: The experiment.
        output: The run directory.
        fresh: Whether to delete denoiser, checkpoints and certificates that the directory holds.

    Raises:
        RunMismatchError: If the directory holds results of other settings.
        RobustNLPError: If data or models cannot be used.
    """
    from robust_nlp.denoising.run import train_denoiser as fine_tune

    settings = recipe.denoiser
    if not isinstance(settings, MaskedLMSettings):
        raise RecipeError(
            "only a denoiser of kind masked_lm is trained; the recipe has "
            + ("none" if settings is None else f"one of kind {settings.kind}")
        )
    options = settings.train
    run = RunDirectory(output)
    if not fresh:
        run.check(recipe, stage="train_denoiser")
    classifier: Any = None
    if options.stability > 0.0 or options.classification > 0.0:
        model = options.classifier or recipe.certify.model
        frozen = dataclasses.replace(
            recipe, denoiser=None, certify=dataclasses.replace(recipe.certify, model=model)
        )
        classifier = load_classifier(frozen, run, device=str(processes(recipe).device)).base
    names = None if classifier is None else classifier.labels
    labelled = recipe.data.label if options.classification > 0.0 else None
    data = dataclasses.replace(recipe.data, label=labelled)
    split = load_split(data, options.train_split, label_names=names)
    validation = load_split(data, options.validation_split, label_names=names)
    hashes = _data_hashes(recipe, split, validation)
    done = run.denoiser if run.denoiser_trained else None
    if _needed(run, "train_denoiser", hashes, done, fresh=fresh):
        with _recorded(run, recipe, "train_denoiser", hashes, fresh=fresh) as stage:
            stage |= fine_tune(settings, recipe, split, validation, run.path, classifier=classifier)
    return run


def _needed(
    run: RunDirectory, stage: Stage, data: Mapping[str, str], done: Path | None, *, fresh: bool
) -> bool:
    """Whether a stage must train; `done` is what it trained already, if anything.

    Raises:
        RunMismatchError: If it trained on other data.
    """
    if fresh:
        return True
    before = run.manifest().get("stages", {}).get(stage, {}).get("data", {})
    if before != {name: data.get(name) for name in before}:
        raise RunMismatchError(
            f"{run.path} holds a training on other data (stage {stage}, content hashes {before} "
            f"in the run, {data} now). Use --fresh to start again, or choose another --output."
        )
    if done is not None:
        logger.info("%s is trained already; to train it again, use --fresh", done)
    return done is None


@contextmanager
def _recorded(
    run: RunDirectory,
    recipe: Recipe,
    stage: Stage,
    data: Mapping[str, str],
    *,
    fresh: bool,
    **entries: Any,
) -> Iterator[dict[str, Any]]:
    """Record a stage in the manifest as begun and, with what is put into the dict, as complete.

    Other entries of the manifest are replaced when it is complete.
    """
    state = processes(recipe)
    state.wait_for_everyone()  # all have looked before anything is written
    if state.is_main_process:
        run.start(recipe, stage=stage, fresh=fresh)
        run.update_manifest(stages={stage: {"data": data}})
    state.wait_for_everyone()
    metrics: dict[str, Any] = {}
    yield metrics
    if state.is_main_process:
        host = environment.host(environment.device_name(str(state.device)))
        ended = {**metrics, "processes": state.num_processes, "data": data, "complete": True}
        run.update_manifest(host=host, stages={stage: ended}, **entries)


def _data_hashes(recipe: Recipe, *splits: Split, noise: bool = True) -> dict[str, str]:
    """Tell data apart that a training depends on: its splits, and what its noise reads."""
    contents = recipe.mechanism.contents() if noise else {}
    read = {name: content["content_hash"] for name, content in contents.items()}
    return {split.name: split.content_hash for split in splits} | read
