"""Drive a recipe over its data: train, and certify part by part."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
import warnings
from collections.abc import Hashable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from robust_nlp import base_classifier, environment
from robust_nlp.advisor import advise, cautions, text_units
from robust_nlp.base_classifier import Text
from robust_nlp.certification.certificates import certificate_from_votes
from robust_nlp.certification.engine import VoteRecord
from robust_nlp.certification.plan import most_votes
from robust_nlp.data import Split, load_split
from robust_nlp.denoising import DenoisedClassifier, MaskedLMSettings, load_denoiser
from robust_nlp.errors import ModelError, RecipeError, RobustNLPWarning, RunMismatchError
from robust_nlp.recipe import Recipe
from robust_nlp.results import RunDirectory
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.threats import parse_attacker
from robust_nlp.units import text_key

logger = logging.getLogger(__name__)

#: How long a process that has done its parts waits for the others.
PATIENCE = timedelta(days=1)


def certify(
    recipe: Recipe, output: str | Path, *, limit: int | None = None, fresh: bool = False
) -> RunDirectory:
    """Certify a split part by part.

    Parts that are on disk are kept: an interrupted run goes on after its last part. Under
    `torchrun` or `accelerate launch`, the processes share the parts. Votes and certificates are
    the same for any number of processes and interruptions.

    Args:
        recipe: The experiment.
        output: The run directory.
        limit: Texts at most, in place of the recipe's own limit.
        fresh: Whether to delete the certificates that the directory holds.

    Raises:
        RunMismatchError: If the directory holds results of other settings, data or weights.
        RobustNLPError: If data or classifier cannot be used.
    """
    from accelerate.utils import broadcast_object_list

    state = processes(recipe)
    if limit is not None:
        limited = dataclasses.replace(recipe.certify, limit=limit)
        recipe = dataclasses.replace(recipe, certify=limited)
    run = RunDirectory(output)
    if not fresh:
        run.check(recipe)
    classifier = load_classifier(recipe, run, device=recipe.model.device or str(state.device))
    split = load_split(recipe.data, recipe.certify.split, label_names=classifier.labels)
    n_texts = min(len(split), recipe.certify.limit or len(split))

    def left() -> list[tuple[int, int]]:
        return parts_left(n_texts, recipe.certify.part_size, run.parts_done())

    parts: list[Any] = [None]
    if state.is_main_process:
        _caution(recipe, split, classifier)
        if fresh:
            run.start(recipe, fresh=True)
        _identify(run, recipe, split, classifier)
        run.start(recipe)
        parts = [left()]
    broadcast_object_list(parts)
    mine = parts[0][state.process_index :: state.num_processes]
    clock = time.perf_counter()
    try:
        _certify_parts(recipe, split, classifier, run, mine)
        state.wait_for_everyone()
    finally:
        if state.is_main_process:
            earlier = run.manifest()["stages"].get("certify", {}).get("seconds", 0.0)
            stage = {
                "seconds": earlier + time.perf_counter() - clock,
                "processes": state.num_processes,
                "complete": not left(),
            }
            run.update_manifest(stages={"certify": stage})
    return run


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

    state = processes(recipe)
    run = RunDirectory(output)
    if not fresh:
        run.check(recipe, stage="train")
    split, validation = training_splits(recipe)
    names = split.label_names
    data = _data_hashes(recipe, split, validation, noise=recipe.train.noise)
    if not fresh:
        before = run.manifest().get("stages", {}).get("train", {}).get("data", {})
        if before != {name: data.get(name) for name in before}:
            raise RunMismatchError(
                f"{run.path} holds a training on other data (content hashes {before} in the run, "
                f"{data} now). Use --fresh to start again, or choose another --output."
            )
        if run.trained:
            logger.info("%s is trained already; to train it again, use --fresh", run.model)
            return run
    state.wait_for_everyone()  # all have looked before anything is written
    if state.is_main_process:
        run.start(recipe, stage="train", fresh=fresh)
        run.update_manifest(stages={"train": {"data": data}})
    state.wait_for_everyone()
    metrics = fine_tune(recipe, split, validation, run.path)
    if state.is_main_process:
        stage = {
            **metrics,
            "processes": state.num_processes,
            "data": data,
            "complete": True,
        }
        host = environment.host(environment.device_name(str(state.device)))
        run.update_manifest(labels=names, host=host, stages={"train": stage})
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
    state, options = processes(recipe), settings.train
    run = RunDirectory(output)
    if not fresh:
        run.check(recipe, stage="train_denoiser")
    classifier: Any = None
    if options.stability > 0.0 or options.classification > 0.0:
        model = options.classifier or recipe.certify.model
        frozen = dataclasses.replace(
            recipe, denoiser=None, certify=dataclasses.replace(recipe.certify, model=model)
        )
        classifier = load_classifier(frozen, run, device=str(state.device)).base
    names = None if classifier is None else classifier.labels
    labelled = recipe.data.label if options.classification > 0.0 else None
    data = dataclasses.replace(recipe.data, label=labelled)
    split = load_split(data, options.train_split, label_names=names)
    validation = load_split(data, options.validation_split, label_names=names)
    hashes = _data_hashes(recipe, split, validation)
    if not fresh:
        before = run.manifest().get("stages", {}).get("train_denoiser", {}).get("data", {})
        if before != {name: hashes.get(name) for name in before}:
            raise RunMismatchError(
                f"{run.path} holds a denoiser trained on other data (content hashes {before} in "
                f"the run, {hashes} now). Use --fresh to start again, or choose another --output."
            )
        if run.denoiser_trained:
            logger.info("%s is trained already; to train it again, use --fresh", run.denoiser)
            return run
    state.wait_for_everyone()  # all have looked before anything is written
    if state.is_main_process:
        run.start(recipe, stage="train_denoiser", fresh=fresh)
        run.update_manifest(stages={"train_denoiser": {"data": hashes}})
    state.wait_for_everyone()
    metrics = fine_tune(settings, recipe, split, validation, run.path, classifier=classifier)
    if state.is_main_process:
        stage = {
            **metrics,
            "processes": state.num_processes,
            "data": hashes,
            "complete": True,
        }
        host = environment.host(environment.device_name(str(state.device)))
        run.update_manifest(host=host, stages={"train_denoiser": stage})
    return run


def classifier_source(recipe: Recipe, run: RunDirectory | None = None) -> tuple[str, str | None]:
    """Return folder or Hub id, and revision, of the classifier that a recipe certifies.

    Raises:
        ModelError: If it is still being trained.
    """
    if recipe.certify.model is not None:
        return recipe.certify.model, None
    if run is not None and run.trained:
        return str(run.model), None
    if run is not None and run.training:
        raise ModelError(
            f"the training in {run.path} is not finished; give the same train command again, or "
            "choose another --output"
        )
    return recipe.model.base, recipe.model.revision


def load_classifier(recipe: Recipe, run: RunDirectory, *, device: str) -> SmoothedClassifier:
    """Load the classifier that a recipe certifies.

    Raises:
        ModelError: If it cannot be loaded.
    """
    path, revision = classifier_source(recipe, run)
    smoothed = SmoothedClassifier.from_pretrained(
        path,
        mechanism=recipe.mechanism,
        revision=revision,
        max_length=recipe.model.max_length,
        prefix=recipe.model.prefix,
        protected=recipe.data.protected,
        device=device,
        dtype=recipe.model.dtype,
        batch_tokens=recipe.model.batch_tokens,
        denoiser=False,  # which the recipe decides about
    )
    if recipe.denoiser is None:
        return smoothed
    denoiser = load_denoiser(
        recipe.denoiser, smoothed.mechanism, path=denoiser_source(run), device=device
    )
    return SmoothedClassifier(DenoisedClassifier(smoothed.base, denoiser), smoothed.mechanism)


def denoiser_source(run: RunDirectory) -> Path | None:
    """Return the folder of the run's own denoiser; `None` if none was trained.

    Raises:
        ModelError: If it is still being trained.
    """
    if run.denoiser_training:
        raise ModelError(
            f"the training of the denoiser in {run.path} is not finished; give the same "
            "train-denoiser command again, or choose another --output"
        )
    return run.denoiser if run.denoiser_trained else None


def parts_left(
    n_texts: int, part_size: int, done: Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Cut what is not done into parts, at multiples of the part size.

    Args:
        n_texts: Number of texts to certify.
        part_size: Texts of a whole part.
        done: Ranges (start, stop) that are done, which do not overlap.
    """
    parts, start = [], 0
    for next_start, next_stop in [*sorted(done), (n_texts, n_texts)]:
        while start < min(next_start, n_texts):
            stop = min(next_start, n_texts, (start // part_size + 1) * part_size)
            parts.append((start, stop))
            start = stop
        start = max(start, next_stop)
    return parts


def processes(recipe: Recipe) -> Any:
    """Return which of how many processes this one is."""
    from accelerate import PartialState

    return PartialState(cpu=recipe.model.device == "cpu", timeout=PATIENCE)


def _certify_parts(
    recipe: Recipe,
    split: Split,
    classifier: SmoothedClassifier,
    run: RunDirectory,
    parts: list[tuple[int, int]],
) -> None:
    from accelerate.utils import tqdm

    attacker = parse_attacker(recipe.certify.attackers[0])
    n_texts = sum(stop - start for start, stop in parts)
    most = most_votes(recipe.certify.plan)
    with tqdm(desc="certify", total=n_texts, unit="text") as bar:
        classified = 0
        known: dict[Hashable, int] = {}  # short noisy texts are shared by many texts

        def on_done(_: int, record: VoteRecord) -> None:
            nonlocal classified
            classified += record.votes_classified
            if most is not None:
                saved = 1.0 - classified / (most * (bar.n + 1))
                bar.set_postfix_str(f"{saved:.0%} of votes saved", refresh=False)
            bar.update()

        for start, stop in parts:
            clock = time.perf_counter()
            records = classifier.votes(
                split.texts[start:stop],
                recipe.certify.plan,
                seed=recipe.seed,
                attacker=attacker,
                on_done=on_done,
                known=known,
            )
            seconds = (time.perf_counter() - clock) / (stop - start)
            rows = [
                {
                    **_row(recipe, classifier, split.texts[i], record),
                    "example_id": i,
                    "label": None if split.labels is None else split.labels[i],
                    "seconds": seconds,
                }
                for i, record in enumerate(records, start)
            ]
            run.write_part(start, stop, rows)


def _row(
    recipe: Recipe, classifier: SmoothedClassifier, text: Text, record: VoteRecord
) -> dict[str, Any]:
    first, second = (text, None) if isinstance(text, str) else text
    certificate = certificate_from_votes(
        record.votes,
        classifier.mechanism,
        alpha=recipe.certify.plan.alpha,
        attacker=recipe.certify.attackers[0],
    )
    return {
        "text_hash": text_key(*base_classifier.parts(text)),
        "text": first,
        "pair": second,
        **dataclasses.asdict(record.votes),
        "votes_asked": record.votes_asked,
        "votes_classified": record.votes_classified,
        "predicted": certificate.predicted,
        "radius": certificate.radius,
        "p_lower": certificate.p_lower,
        "p_runner_up": certificate.p_runner_up,
        "alpha": certificate.alpha,
        "method": certificate.method,
        "dead_zone": certificate.dead_zone,
    }


def _caution(recipe: Recipe, split: Split, classifier: SmoothedClassifier) -> None:
    """Warn of texts that cannot have certificates worth their votes."""
    texts = split.texts[: recipe.certify.limit]
    tokenizer = getattr(classifier.base, "tokenizer", None)
    units = text_units(texts, recipe.mechanism.unit, recipe.data.protected, tokenizer)
    attackers = [parse_attacker(recipe.certify.attackers[0])]
    advice = advise(units, recipe.mechanism, attackers, recipe.certify.plan)
    logger.info(
        "%d texts of %s: median ceiling %s, %.0f%% in the dead zone, %.0f%% decided exactly",
        len(texts),
        split.description,
        next(iter(advice.ceilings.values())),
        100 * advice.dead_zone,
        100 * advice.exact,
    )
    for caution in cautions(advice):
        warnings.warn(caution, RobustNLPWarning, stacklevel=3)


def _identify(
    run: RunDirectory, recipe: Recipe, split: Split, classifier: SmoothedClassifier
) -> None:
    base: Any = classifier.base
    run.identify(
        data={
            "split": split.name,
            "rows": len(split),
            "limit": recipe.certify.limit,
            "content_hash": split.content_hash,
            "description": split.description,
        },
        classifier={
            "path": classifier_source(recipe, run)[0],
            "max_length": base.max_length,
            "content_hash": classifier_hash(base),
        },
        **recipe.mechanism.contents(),
    )
    host = environment.host(environment.device_name(str(base.model.device)))
    run.update_manifest(labels=classifier.labels, host=host)


def _data_hashes(recipe: Recipe, *splits: Split, noise: bool = True) -> dict[str, str]:
    """Tell data apart that a training depends on: its splits, and what its noise reads."""
    contents = recipe.mechanism.contents() if noise else {}
    read = {name: content["content_hash"] for name, content in contents.items()}
    return {split.name: split.content_hash for split in splits} | read


def classifier_hash(base: Any) -> str:
    """Tell classifiers apart: by their weights, their tokenizers, and how they read."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((base.max_length, base.prefix, base.labels)).encode())
    models: list[Any] = [base, base.denoiser] if isinstance(base, DenoisedClassifier) else [base]
    for part in models:
        _update_hash(digest, part.model, part.tokenizer)
    return digest.hexdigest()


def _update_hash(digest: Any, model: Any, tokenizer: Any) -> None:
    import torch

    backend = getattr(tokenizer, "backend_tokenizer", None)
    reads = backend.to_str() if backend else repr(sorted(tokenizer.get_vocab().items()))
    digest.update(repr((tokenizer.truncation_side, tokenizer.special_tokens_map)).encode())
    digest.update(reads.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
