"""Look a recipe over before it costs anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from robust_nlp.advisor import advise, cautions, text_units
from robust_nlp.base_classifier import Text
from robust_nlp.data import Split, load_split
from robust_nlp.denoising.checkpoint import check_checkpoint
from robust_nlp.denoising.settings import MaskedLMSettings
from robust_nlp.embedded import resolve_base
from robust_nlp.errors import ModelError, RecipeError, RobustNLPError
from robust_nlp.loading import load_tokenizer
from robust_nlp.pipeline import classifier_source, denoiser_source
from robust_nlp.recipe import Recipe
from robust_nlp.results import RunDirectory
from robust_nlp.smoothing import resolve_mask
from robust_nlp.threats import parse_attacker

T = TypeVar("T")


def validate(recipe: Recipe, output: str | Path | None = None) -> list[str]:
    """Look for what would stop a recipe or disappoint, without training or voting.

    Looked at are: tokenizer and configuration of the classifier and of the denoiser, their kinds,
    heads, masks and lengths; the splits with their columns and values; labels against the
    classifier's head, and classes that no text has; arguments of training, where the recipe starts
    from a model without a head; files that the mechanism reads; ceilings, dead zones, and texts
    with nothing to swap. Weights are not loaded. The methods of a comparison and the variants of a
    study are looked at one by one, for what is not wrong with all of them.

    Args:
        recipe: The experiment.
        output: The run directory, where a trained classifier may be; `None` for none.

    Returns:
        What was found, one sentence or more each; empty if all is well.
    """
    findings = _of_one(recipe, output)
    parts: dict[str, Recipe] = {}
    if recipe.compare is not None:
        parts |= {f"method {name}": recipe.method(name) for name in recipe.compare.methods}
    if recipe.study is not None:
        parts |= {f"variant {name}": recipe.variant(name) for name in recipe.study.variants}
    for name, part in parts.items():
        findings += [f"{name}: {each}" for each in _of_one(part, None) if each not in findings]
    return findings


def _of_one(recipe: Recipe, output: str | Path | None) -> list[str]:
    findings: list[str] = []

    def attempt(action: Callable[[], T]) -> T | None:
        try:
            return action()
        except (RobustNLPError, ValueError) as error:
            findings.append(str(error))
            return None

    run = None if output is None else RunDirectory(output)
    loaded = attempt(lambda: _load(recipe, run))
    tokenizer, names = loaded or (None, None)
    if loaded is not None:
        attempt(lambda: resolve_mask(recipe.mechanism, tokenizer))
        if names is None:
            names = attempt(lambda: _check_training(recipe))
    if recipe.denoiser is not None:
        attempt(lambda: _check_denoiser(recipe, run, tokenizer))
    read = attempt(recipe.mechanism.contents)
    split = attempt(lambda: load_split(recipe.data, recipe.certify.split, label_names=names))
    known = tokenizer is not None or recipe.mechanism.unit != "token"
    findings += _unused_classes(names, split)
    if split is not None and known and read is not None:
        findings += attempt(lambda: _cautions(recipe, split, tokenizer)) or []
    return findings


def unit_lists(recipe: Recipe, texts: Sequence[Text]) -> list[list[str]]:
    """Split texts into units; the tokenizer is loaded only where units are tokens.

    Raises:
        ModelError: If the tokenizer cannot be loaded.
    """
    tokenizer = _load(recipe, None)[0] if recipe.mechanism.unit == "token" else None
    return text_units(texts, recipe.mechanism.unit, recipe.data.protected, tokenizer)


def _load(recipe: Recipe, run: RunDirectory | None) -> tuple[Any, list[str] | None]:
    """Return the tokenizer, and the names of the classes if the model has a head for them."""
    from transformers import AutoConfig

    path, revision = classifier_source(recipe, run)
    source = resolve_base(path)
    try:
        tokenizer = load_tokenizer(source, revision)
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot load tokenizer and configuration of {source!r}: {error}"
        ) from error
    if any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
        return tokenizer, [str(name) for _, name in sorted(config.id2label.items())]
    if recipe.certify.model is not None:
        raise ModelError(f"certify.model={path!r} is no sequence classifier: it has no head")
    return tokenizer, None


def _unused_classes(names: list[str] | None, split: Split | None) -> list[str]:
    """Find classes without a text: perhaps the classifier is one for other labels."""
    if names is None or split is None or split.labels is None:
        return []
    used = set(split.labels)
    unused = [name for i, name in enumerate(names) if i not in used]
    if not unused:
        return []
    return [
        f"no text of {split.description} (split {split.name!r}) has the class "
        f"{' or '.join(unused[:5])}; the classifier knows {len(names)} classes. Is it made for "
        "these labels?"
    ]


def _check_training(recipe: Recipe) -> list[str] | None:
    """Check what training needs; return the names of the classes that it will learn."""
    from robust_nlp.training.arguments import training_arguments

    training_arguments(recipe, Path())
    if recipe.data.label is None:
        raise RecipeError(
            f"{recipe.model.base!r} has no classification head and must be trained first, which "
            "needs labels: say with data.label which column holds them"
        )
    training = load_split(recipe.data, recipe.train.train_split)
    names = training.label_names
    load_split(recipe.data, recipe.train.validation_split, label_names=names)
    return names


def _check_denoiser(recipe: Recipe, run: RunDirectory | None, tokenizer: Any) -> None:
    """Check the denoiser's checkpoint, and what its training needs where it must be trained."""
    settings = recipe.denoiser
    if settings is None:
        return
    path = None if run is None else denoiser_source(run)
    found = check_checkpoint(settings, recipe.mechanism, path=path)
    if found.trained or not isinstance(settings, MaskedLMSettings):
        return
    from robust_nlp.denoising.run import check_training

    options = settings.train
    guided = options.stability > 0.0 or options.classification > 0.0
    if guided and tokenizer is not None and tokenizer.get_vocab() != found.tokenizer.get_vocab():
        raise RecipeError(
            "denoiser.train: stability and classification feed embeddings to the classifier, which "
            "needs the very tokenizer of the denoiser; take another denoiser, or reconstruct alone"
        )
    data = dataclasses.replace(
        recipe.data, label=recipe.data.label if options.classification > 0.0 else None
    )
    train, validation = (
        load_split(data, name) for name in (options.train_split, options.validation_split)
    )
    check_training(settings, recipe, train, validation, found.tokenizer)


def _cautions(recipe: Recipe, split: Split, tokenizer: Any) -> list[str]:
    texts = split.texts[: recipe.certify.limit]
    units = text_units(texts, recipe.mechanism.unit, recipe.data.protected, tokenizer)
    attackers = [parse_attacker(name) for name in recipe.certify.attackers]
    return cautions(advise(units, recipe.mechanism, attackers, recipe.certify.plan))
