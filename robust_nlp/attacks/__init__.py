"""Attacks on classifiers, plain and smoothed, by the recipes of TextAttack.

    from robust_nlp.attacks import AttackSuite

    report = AttackSuite(["deepwordbug", "pwws"]).run(classifier, [("a good film", 1), ...])
    print(report.summary())
    for finding in report.findings:
        print(finding.words)

TextAttack finds the texts. What is here gives it a victim, runs many examples at once, judges what
was found, keeps one row an example, and says where the outcome should not be trusted.
"""

from importlib import import_module
from typing import Any

from robust_nlp.attacks.settings import AttackRecipe

#: Names whose modules import torch, and so wait until somebody asks for them.
_LATER = {
    "AttackReport": "robust_nlp.attacks.report",
    "AttackRow": "robust_nlp.attacks.rows",
    "AttackSuite": "robust_nlp.attacks.suite",
    "Finding": "robust_nlp.attacks.detectors",
    "Reduced": "robust_nlp.attacks.reduction",
    "reduce_inputs": "robust_nlp.attacks.reduction",
    "run_attacks": "robust_nlp.attacks.suite",
}

__all__ = [
    "AttackRecipe",
    "AttackReport",
    "AttackRow",
    "AttackSuite",
    "Finding",
    "Reduced",
    "reduce_inputs",
    "run_attacks",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'robust_nlp.attacks' has no attribute {name!r}")
