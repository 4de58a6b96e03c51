"""The classifier that a recipe certifies: where it is, loading it, telling it from others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from robust_nlp.denoising import DenoisedClassifier, load_denoiser
from robust_nlp.errors import ModelError
from robust_nlp.recipe import Recipe
from robust_nlp.results import RunDirectory
from robust_nlp.smoothing import SmoothedClassifier


def classifier_source(recipe: Recipe, run: RunDirectory | None = None) -> tuple[str, str | None]:
    """Return folder or Hub id, and revision, of the classifier that a recipe certifies.

    Raises:
        ModelError: If it is still being trained.
    """
    if recipe.certify.model is not None:
        return recipe.certify.model, None
    if run is not None and run.trained:
        return str(run.model), None
    if run is not None and run.training:
        raise ModelError(
            f"the training in {run.path} is not finished; give the same train command again, or "
            "choose another --output"
        )
    return recipe.model.base, recipe.model.revision


def load_classifier(recipe: Recipe, run: RunDirectory, *, device: str) -> SmoothedClassifier:
    """Load the classifier that a recipe certifies.

    Raises:
        ModelError: If it cannot be loaded.
    """
    path, revision = classifier_source(recipe, run)
    smoothed = SmoothedClassifier.from_pretrained(
        path,
        mechanism=recipe.mechanism,
        revision=revision,
        max_length=recipe.model.max_length,
        prefix=recipe.model.prefix,
        protected=recipe.data.protected,
        device=device,
        dtype=recipe.model.dtype,
        batch_tokens=recipe.model.batch_tokens,
        denoiser=False,  # which the recipe decides about
    )
    if recipe.denoiser is None:
        return smoothed
    denoiser = load_denoiser(
        recipe.denoiser, smoothed.mechanism, path=denoiser_source(run), device=device
    )
    return SmoothedClassifier(DenoisedClassifier(smoothed.base, denoiser), smoothed.mechanism)


def denoiser_source(run: RunDirectory) -> Path | None:
    """Return the folder of the run's own denoiser; `None` if none was trained.

    Raises:
        ModelError: If it is still being trained.
    """
    if run.denoiser_training:
        raise ModelError(
            f"the training of the denoiser in {run.path} is not finished; give the same "
            "train-denoiser command again, or choose another --output"
        )
    return run.denoiser if run.denoiser_trained else None


def classifier_hash(base: Any) -> str:
    """Tell classifiers apart: by their weights, their tokenizers, and how they read."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((base.max_length, base.prefix, base.labels)).encode())
    models: list[Any] = [base, base.denoiser] if isinstance(base, DenoisedClassifier) else [base]
    for part in models:
        _update_hash(digest, part.model, part.tokenizer)
    return digest.hexdigest()


def _update_hash(digest: Any, model: Any, tokenizer: Any) -> None:
    import torch

    backend = getattr(tokenizer, "backend_tokenizer", None)
    reads = backend.to_str() if backend else repr(sorted(tokenizer.get_vocab().items()))
    digest.update(repr((tokenizer.truncation_side, tokenizer.special_tokens_map)).encode())
    digest.update(reads.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
