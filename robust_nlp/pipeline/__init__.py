"""Drive a recipe over its data: train, and certify part by part."""

from robust_nlp.pipeline.certifying import certify, parts_left
from robust_nlp.pipeline.fine_tuning import train, train_denoiser, training_splits
from robust_nlp.pipeline.loading import (
    classifier_hash,
    classifier_source,
    denoiser_source,
    load_classifier,
)
from robust_nlp.pipeline.processes import PATIENCE, processes

__all__ = [
    "PATIENCE",
    "certify",
    "classifier_hash",
    "classifier_source",
    "denoiser_source",
    "load_classifier",
    "parts_left",
    "processes",
    "train",
    "train_denoiser",
    "training_splits",
]
