"""How long one answer takes, and how often the classifier is called for it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_nlp import environment, pipeline
from robust_nlp.base_classifier import Text, parts
from robust_nlp.certification.certificates import certificate_from_votes
from robust_nlp.compare.memory import peak_memory
from robust_nlp.compare.methods import MethodRun
from robust_nlp.compare.settings import Measuring
from robust_nlp.files import write_whole
from robust_nlp.scoring.answers import answers_of
from robust_nlp.scoring.answers import plain as innermost
from robust_nlp.scoring.store import ScoreStore
from robust_nlp.settings import plain
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.units import text_key

#: File of the times in a run directory.
FILE = "timing.json"


def time_answers(run: MethodRun, texts: Sequence[Text], *, device: str) -> dict[str, Any]:
    """Measure the time of answers to texts one by one, as a product would ask; times are kept.

    A smoothed classifier answers with the plan of the scores, which stops at the first certainty.
    One answer before the others warms up and does not count.

    Args:
        run: The method, scored before.
        texts: The texts; one at least.
        device: The torch device.

    Returns:
        `seconds` and `calls` (texts that the classifier reads) of an answer on average, `median`
        seconds, `texts`, and `peak_bytes` of memory, `peak_of` what; see `Peak`.
    """
    assert run.recipe.score is not None
    made_with = {
        "classifier": ScoreStore(run.path).made_with().get("classifier"),
        "plan": plain(run.recipe.score.plan) if run.method.smoothed else None,
        "mechanism": run.recipe.mechanism.to_dict() if run.method.smoothed else None,
        "denoiser": plain(run.recipe.denoiser),
        "seed": run.recipe.seed,
        "device": environment.device_name(device),
        "texts": text_key(*(part for text in texts for part in parts(text))),
    }
    path = run.path / FILE
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if known["made_with"] == json.loads(json.dumps(made_with)):
            return known
    with peak_memory(device) as peak:
        smoothed = pipeline.load_classifier(run.recipe, run.directory, device=device)
        _answer(run, smoothed, texts[0])
        seconds, calls = [], []
        for text in texts:
            start = time.perf_counter()
            calls.append(_answer(run, smoothed, text))
            seconds.append(time.perf_counter() - start)
    found = {
        "made_with": made_with,
        "texts": len(texts),
        "seconds": float(np.mean(seconds)),
        "median": float(np.median(seconds)),
        "calls": float(np.mean(calls)),
        "peak_bytes": peak.bytes,
        "peak_of": peak.of,
    }
    write_whole(path, f"{json.dumps(found, indent=2)}\n".encode())
    return found


def read_times(path: Path) -> dict[str, Any] | None:
    """Return the times that a run directory holds, `None` without any."""
    file = path / FILE
    if not file.is_file():
        return None
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def note_memory(run: MethodRun, stage: Measuring | str, peak_bytes: int | None) -> None:
    """Write into the manifest how much memory a stage took at most, over all its calls."""
    if peak_bytes is None:
        return
    directory = run.directory
    before = directory.manifest().get("memory", {})
    most = max(before.get(stage, 0), peak_bytes)
    directory.update_manifest(memory={**before, stage: most})


def _answer(run: MethodRun, smoothed: SmoothedClassifier, text: Text) -> int:
    """Answer for one text, and return how many texts the classifier read for it."""
    if not run.method.smoothed:
        answers_of(innermost(smoothed))([text])
        return 1
    assert run.recipe.score is not None
    plan, mechanism = run.recipe.score.plan, smoothed.mechanism
    (record,) = smoothed.votes([text], plan, seed=run.recipe.seed)
    certificate_from_votes(
        record.votes, mechanism, alpha=plan.alpha or 0.5, attacker=mechanism.certifies
    )
    return record.votes_classified
