"""Certify a split part by part."""

from __future__ import annotations

import dataclasses
import logging
import time
import warnings
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

from robust_nlp import base_classifier, environment
from robust_nlp.advisor import advise, cautions, text_units
from robust_nlp.base_classifier import Text
from robust_nlp.certification.certificates import certificate_from_votes
from robust_nlp.certification.engine import VoteRecord
from robust_nlp.certification.plan import most_votes
from robust_nlp.data import Split, load_split
from robust_nlp.errors import RobustNLPWarning
from robust_nlp.pipeline.loading import classifier_hash, classifier_source, load_classifier
from robust_nlp.pipeline.processes import processes
from robust_nlp.recipe import Recipe
from robust_nlp.results import RunDirectory
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.threats import parse_attacker
from robust_nlp.units import text_key

logger = logging.getLogger(__name__)


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
