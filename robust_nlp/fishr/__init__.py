"""Fine-tuning for several domains: Fishr, and other objectives on the same sums."""

from robust_nlp.fishr.average import MovingAverage
from robust_nlp.fishr.batch import DomainBatch, domain_batch
from robust_nlp.fishr.diagnostics import BatchDiagnosis, diagnose, penalty_to_noise
from robust_nlp.fishr.head import HeadCapture, HeadRows
from robust_nlp.fishr.invariance import CORAL, IRM, VREx
from robust_nlp.fishr.moments import DomainVariances, gradient_variances, half_variances
from robust_nlp.fishr.objectives import AnyObjective, Fishr
from robust_nlp.fishr.penalty import fishr_penalty
from robust_nlp.fishr.residuals import any_loss, residuals_of, softmax_loss
from robust_nlp.fishr.reweighting import ERM, GroupDRO, ReweightedERM
from robust_nlp.fishr.state import ObjectiveState
from robust_nlp.fishr.value import ObjectiveValue

__all__ = [
    "CORAL",
    "ERM",
    "IRM",
    "AnyObjective",
    "BatchDiagnosis",
    "DomainBatch",
    "DomainVariances",
    "Fishr",
    "GroupDRO",
    "HeadCapture",
    "HeadRows",
    "MovingAverage",
    "ObjectiveState",
    "ObjectiveValue",
    "ReweightedERM",
    "VREx",
    "any_loss",
    "diagnose",
    "domain_batch",
    "fishr_penalty",
    "gradient_variances",
    "half_variances",
    "penalty_to_noise",
    "residuals_of",
    "softmax_loss",
]
