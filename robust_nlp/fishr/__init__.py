"""Fine-tuning for several domains: Fishr, and other objectives on the same sums.

    from robust_nlp.fishr import FishrConfig, FishrTrainer

    args = FishrConfig(output_dir="out", domain_column="source", objective="fishr")
    FishrTrainer(model, args, train_dataset=train, processing_class=tokenizer).train()

A recipe does the same with `train.domains`, and `robust-nlp domains` compares objectives on domains
that were held out.
"""

from importlib import import_module
from typing import Any

#: Names by module. All modules import torch, and so wait until somebody asks for them.
_LATER = {
    "AnyObjective": "robust_nlp.fishr.objectives",
    "BatchDiagnosis": "robust_nlp.fishr.diagnostics",
    "CORAL": "robust_nlp.fishr.invariance",
    "DomainBalancedSampler": "robust_nlp.fishr.sampler",
    "DomainBatch": "robust_nlp.fishr.batch",
    "DomainVariances": "robust_nlp.fishr.moments",
    "ERM": "robust_nlp.fishr.reweighting",
    "Fishr": "robust_nlp.fishr.objectives",
    "FishrConfig": "robust_nlp.fishr.config",
    "FishrTrainer": "robust_nlp.fishr.trainer",
    "GroupDRO": "robust_nlp.fishr.reweighting",
    "HeadCapture": "robust_nlp.fishr.head",
    "HeadRows": "robust_nlp.fishr.head",
    "IRM": "robust_nlp.fishr.invariance",
    "MovingAverage": "robust_nlp.fishr.average",
    "ObjectiveState": "robust_nlp.fishr.state",
    "ObjectiveValue": "robust_nlp.fishr.value",
    "ReweightedERM": "robust_nlp.fishr.reweighting",
    "VREx": "robust_nlp.fishr.invariance",
    "any_loss": "robust_nlp.fishr.residuals",
    "diagnose": "robust_nlp.fishr.diagnostics",
    "domain_batch": "robust_nlp.fishr.batch",
    "fishr_penalty": "robust_nlp.fishr.penalty",
    "gradient_variances": "robust_nlp.fishr.moments",
    "half_variances": "robust_nlp.fishr.moments",
    "penalty_to_noise": "robust_nlp.fishr.diagnostics",
    "residuals_of": "robust_nlp.fishr.residuals",
    "softmax_loss": "robust_nlp.fishr.residuals",
}

__all__ = [
    "CORAL",
    "ERM",
    "IRM",
    "AnyObjective",
    "BatchDiagnosis",
    "DomainBalancedSampler",
    "DomainBatch",
    "DomainVariances",
    "Fishr",
    "FishrConfig",
    "FishrTrainer",
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


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'robust_nlp.fishr' has no attribute {name!r}")
