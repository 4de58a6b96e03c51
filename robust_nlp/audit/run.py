"""Audit the certificates of a run, part by part."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_nlp.audit.files import AuditFiles, certificates_key
from robust_nlp.audit.settings import AuditSettings
from robust_nlp.audit.texts import audit_text
from robust_nlp.audit.verdict import Verdict, verdict
from robust_nlp.audit.writing import words_by_class
from robust_nlp.base_classifier import Text
from robust_nlp.errors import DataError, RunMismatchError
from robust_nlp.pipeline import PATIENCE, classifier_hash, load_classifier, parts_left
from robust_nlp.reporting.texts import CertifiedText, certify_rows
from robust_nlp.results import RunDirectory
from robust_nlp.smoothing import SmoothedClassifier

logger = logging.getLogger(__name__)

#: Texts per part: what an interruption loses at most.
PART_SIZE = 8


def audit_run(
    path: str | Path,
    settings: AuditSettings | None = None,
    *,
    limit: int | None = None,
    fresh: bool = False,
) -> Verdict:
    """Look inside the certified balls of a run for texts with another answer; see `audit`.

    Certificates are computed anew from the stored votes, at the plan's alpha, against every
    attacker of the recipe. Parts that are on disk are kept: an interrupted audit goes on after its
    last part. Under `torchrun` or `accelerate launch`, the processes share the parts. Rows are the
    same for any number of processes and interruptions.

    Args:
        path: The run directory.
        settings: How hard to look; `None` takes the defaults.
        limit: Texts at most, from the start; `None` takes all.
        fresh: Whether to delete the audit that the directory holds.

    Raises:
        RunMismatchError: If the classifier is not the one that was certified, or the directory
            holds an audit of other settings or certificates.
        DataError: If there are no certificates.
        RobustNLPError: If the classifier cannot be used.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    settings = settings or AuditSettings()
    run, files = RunDirectory(path), AuditFiles(path)
    recipe, rows = run.recipe(), run.rows()
    if not rows:
        raise DataError(f"{path} holds no certificates to audit; certify its recipe first")
    state = PartialState(cpu=recipe.model.device == "cpu", timeout=PATIENCE)
    smoothed = load_classifier(recipe, run, device=recipe.model.device or str(state.device))
    attackers = recipe.certify.attackers
    certified = certify_rows(
        rows, recipe.mechanism, alpha=recipe.certify.plan.alpha, attackers=attackers
    )
    texts: list[Text] = [
        each.text if each.pair is None else (each.text, each.pair) for each in certified
    ]
    predicted = [each.first.predicted for each in certified]
    words = words_by_class(smoothed, texts, predicted, size=settings.words)
    n_texts = min(len(texts), limit or len(texts))
    parts: list[Any] = [None]
    if state.is_main_process:
        made_with = {
            "certificates": certificates_key(rows, attackers),
            "classifier": _checked_classifier(run, smoothed),
            "word_list": _key(words),
        }
        files.start(settings, made_with, fresh=fresh)
        parts = [parts_left(n_texts, PART_SIZE, files.parts_done())]
    broadcast_object_list(parts)
    mine = parts[0][state.process_index :: state.num_processes]
    _audit_parts(smoothed, texts, certified, settings, words, files, mine)
    state.wait_for_everyone()
    return verdict(files.rows(), alpha=settings.alpha)


def _audit_parts(
    smoothed: SmoothedClassifier,
    texts: Sequence[Text],
    certified: Sequence[CertifiedText],
    settings: AuditSettings,
    words: Mapping[int, Sequence[str]],
    files: AuditFiles,
    parts: Sequence[tuple[int, int]],
) -> None:
    from accelerate.utils import tqdm

    with tqdm(desc="audit", total=sum(stop - start for start, stop in parts), unit="text") as bar:
        for start, stop in parts:
            rows = []
            for i in range(start, stop):
                row = audit_text(
                    smoothed,
                    texts[i],
                    list(certified[i].certificates.values()),
                    settings,
                    words=words,
                    example_id=certified[i].example_id,
                )
                rows.append(row)
                bar.update()
            files.write_part(start, stop, rows)


def _checked_classifier(run: RunDirectory, smoothed: SmoothedClassifier) -> str:
    """Return the key of the classifier.

    Raises:
        RunMismatchError: If another one was certified.
    """
    before = run.manifest().get("classifier", {}).get("content_hash")
    now = classifier_hash(smoothed.base)
    if before is not None and before != now:
        raise RunMismatchError(
            f"{run.path} holds certificates of another classifier (content_hash {before} in the "
            f"run, {now} now): an audit would look for errors of the wrong one. Bring back the "
            "classifier, or certify again with --fresh."
        )
    return now


def _key(words: Mapping[int, Sequence[str]]) -> str:
    content = json.dumps({str(label): list(units) for label, units in words.items()})
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
