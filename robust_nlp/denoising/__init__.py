"""Denoised smoothing: repair noisy texts before an unchanged base classifier reads them."""

from importlib import import_module
from typing import Any

from robust_nlp.denoising.base import MASK, Denoiser
from robust_nlp.denoising.classifier import DenoisedClassifier
from robust_nlp.denoising.contract import check_denoiser
from robust_nlp.denoising.settings import (
    AnyDenoiserSettings,
    CausalLMSettings,
    DenoiserTraining,
    MaskedLMSettings,
    Seq2SeqSettings,
    load_denoiser,
)

#: Names whose modules import torch or transformers, and so wait until somebody asks for them.
_LATER = {
    "CausalLMDenoiser": "robust_nlp.denoising.generative",
    "MaskedLMDenoiser": "robust_nlp.denoising.masked_lm",
    "Seq2SeqDenoiser": "robust_nlp.denoising.generative",
}

__all__ = [
    "MASK",
    "AnyDenoiserSettings",
    "CausalLMDenoiser",
    "CausalLMSettings",
    "DenoisedClassifier",
    "Denoiser",
    "DenoiserTraining",
    "MaskedLMDenoiser",
    "MaskedLMSettings",
    "Seq2SeqDenoiser",
    "Seq2SeqSettings",
    "check_denoiser",
    "load_denoiser",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'robust_nlp.denoising' has no attribute {name!r}")
