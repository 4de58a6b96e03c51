"""Robustness scores: by how much accuracy falls when texts are perturbed.

    from robust_nlp.scoring import DeleteWords, Typos, score

    scores = score(
        {"smoothed": smoothed, "plain": smoothed.base},
        texts, labels,
        [DeleteWords(draws=3), DeleteWords(order="most_important"), Typos()],
    )
    scores.to_dict()["scores"]

A recipe does the same with `robust-nlp score`. `robust_nlp.scoring.metrics` has the scores as
`evaluate.Metric`.
"""

from importlib import import_module
from typing import Any

from robust_nlp.scoring.base import Perturbation
from robust_nlp.scoring.changes import (
    ChangeCase,
    ChangePunctuation,
    InsertWords,
    SwapNeighbours,
    Typos,
)
from robust_nlp.scoring.perturbations import DEFAULT, AnyPerturbation, DeleteWords
from robust_nlp.scoring.settings import ScoreRecipe

#: Names whose modules import torch or evaluate, and so wait until somebody asks for them.
_LATER = {
    "AbstentionAwareAccuracy": "robust_nlp.scoring.metrics",
    "AttackSuccessRate": "robust_nlp.scoring.metrics",
    "CertifiedAccuracy": "robust_nlp.scoring.metrics",
    "RobustnessScore": "robust_nlp.scoring.metrics",
    "RobustnessScores": "robust_nlp.scoring.tables",
    "WorstGroupAccuracy": "robust_nlp.scoring.metrics",
    "certified_for_trainer": "robust_nlp.scoring.metrics",
    "for_trainer": "robust_nlp.scoring.metrics",
    "score": "robust_nlp.scoring.rows",
}

__all__ = [
    "DEFAULT",
    "AbstentionAwareAccuracy",
    "AnyPerturbation",
    "AttackSuccessRate",
    "CertifiedAccuracy",
    "ChangeCase",
    "ChangePunctuation",
    "DeleteWords",
    "InsertWords",
    "Perturbation",
    "RobustnessScore",
    "RobustnessScores",
    "ScoreRecipe",
    "SwapNeighbours",
    "Typos",
    "WorstGroupAccuracy",
    "certified_for_trainer",
    "for_trainer",
    "score",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'robust_nlp.scoring' has no attribute {name!r}")
