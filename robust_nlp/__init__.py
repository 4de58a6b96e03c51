"""Certify, measure and improve the robustness of Hugging Face text classifiers."""

from importlib import import_module
from typing import Any

from robust_nlp._version import __version__
from robust_nlp.base_classifier import BaseClassifier, CallableClassifier
from robust_nlp.certification import (
    Certificate,
    ExactPlan,
    FixedPlan,
    SamplingPlan,
    SequentialPlan,
    VoteCounts,
    certificate_from_votes,
    certified_accuracy,
)
from robust_nlp.mechanisms import (
    AdaptiveDeletion,
    BagDeletion,
    CombinedNoise,
    EditBudget,
    ExponentialSubstitution,
    GaussianEmbedding,
    NeymanPearsonMechanism,
    RandomizedDeletion,
    RandomMasking,
    Reordering,
    SynonymSmoothing,
    TextMechanism,
)
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.swaps import AllowedSwaps
from robust_nlp.threats import ThreatModel

#: Names whose modules import torch or transformers, and so wait until somebody asks for them.
_LATER = {
    "AdversarialLoss": "robust_nlp.training.adversarial",
    "AttackSuite": "robust_nlp.attacks.suite",
    "DenoisedClassifier": "robust_nlp.denoising",
    "FishrConfig": "robust_nlp.fishr.config",
    "FishrTrainer": "robust_nlp.fishr.trainer",
    "HuggingFaceClassifier": "robust_nlp.huggingface",
    "MaskedLMDenoiser": "robust_nlp.denoising",
    "SmoothedPipeline": "robust_nlp.smoothed_pipeline",
    "WeightAveraging": "robust_nlp.training.averaging",
    "fishr_penalty": "robust_nlp.fishr.penalty",
}

__all__ = [
    "AdaptiveDeletion",
    "AdversarialLoss",
    "AllowedSwaps",
    "AttackSuite",
    "BagDeletion",
    "BaseClassifier",
    "CallableClassifier",
    "Certificate",
    "CombinedNoise",
    "DenoisedClassifier",
    "EditBudget",
    "ExactPlan",
    "ExponentialSubstitution",
    "FishrConfig",
    "FishrTrainer",
    "FixedPlan",
    "GaussianEmbedding",
    "HuggingFaceClassifier",
    "MaskedLMDenoiser",
    "NeymanPearsonMechanism",
    "RandomMasking",
    "RandomizedDeletion",
    "Reordering",
    "SamplingPlan",
    "SequentialPlan",
    "SmoothedClassifier",
    "SmoothedPipeline",
    "SynonymSmoothing",
    "TextMechanism",
    "ThreatModel",
    "VoteCounts",
    "WeightAveraging",
    "__version__",
    "certificate_from_votes",
    "certified_accuracy",
    "fishr_penalty",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'robust_nlp' has no attribute {name!r}")
