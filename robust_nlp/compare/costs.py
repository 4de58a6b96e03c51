"""What a method costs: its training, an answer, a certificate, memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robust_nlp.compare.results import MethodResults
from robust_nlp.compare.settings import CompareRecipe

#: Stages that train something.
TRAININGS = ("train", "train_denoiser")


def cost_facts(
    comparison: CompareRecipe, methods: Sequence[MethodResults], method: MethodResults
) -> dict[str, Any]:
    """Return what a method costs.

    Args:
        comparison: Says whose classifiers methods take.
        methods: All methods.
        method: The method.

    Returns:
        `training`: seconds of all trainings that it rests on, those of the methods whose
        classifiers it takes included, and whether one was resumed, so that they are too few;
        `answer`: see `time_answers`; `certificate`: `seconds` of one process and `calls` of the
        classifier, on average; `memory`: the most bytes of each stage; `None` for what is not
        known.
    """
    by_name = {each.name: each for each in methods}
    manifest = method.run.directory.manifest()
    timing = method.timing
    known = timing["peak_bytes"] if timing else None
    return {
        "training": _training([by_name[name] for name in comparison.chain(method.name)]),
        "answer": timing and {k: timing[k] for k in ("texts", "seconds", "median", "calls")},
        "certificate": _certificate(method),
        "memory": {
            **manifest.get("memory", {}),
            **({} if known is None else {"answer": known}),
        },
        "memory_of": timing["peak_of"] if timing else None,
        "stages": {
            name: {k: stage[k] for k in ("seconds", "processes") if k in stage}
            for name, stage in manifest.get("stages", {}).items()
        },
        "host": manifest.get("host"),
    }


def _training(chain: Sequence[MethodResults]) -> dict[str, Any] | None:
    """Add up trainings; `None` while one is missing, or the classifier came from elsewhere."""
    seconds, resumed = 0.0, False
    for each in chain:
        run = each.run
        if not run.trains and run.method.model_of is None:
            return None
        stages = run.directory.manifest().get("stages", {})
        for name, there in zip(TRAININGS, (run.trains, run.trains_denoiser), strict=True):
            # Of a method whose classifier is taken, the denoiser is not.
            if not there or (name == "train_denoiser" and each is not chain[0]):
                continue
            if not stages.get(name, {}).get("complete"):
                return None
            seconds += stages[name]["seconds"]
            resumed |= bool(stages[name]["resumed_at"])
    return {"seconds": seconds, "resumed": resumed, "of": [each.name for each in chain]}


def _certificate(method: MethodResults) -> dict[str, Any] | None:
    if method.report is None:
        return None
    texts = method.report.texts
    return {
        "texts": len(texts),
        "seconds": sum(text.seconds for text in texts) / len(texts),
        "calls": sum(text.votes_classified for text in texts) / len(texts),
    }
