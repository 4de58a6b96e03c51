"""The folder of a smoothed classifier: all that its answers and certificates depend on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_nlp.base_classifier import BaseClassifier
from robust_nlp.denoising.classifier import DenoisedClassifier
from robust_nlp.errors import ModelError
from robust_nlp.sharing.denoisers import load_saved_denoiser, save_denoiser
from robust_nlp.sharing.noise import write_noise
from robust_nlp.sharing.plain import save_model
from robust_nlp.sharing.readme import readme

if TYPE_CHECKING:
    from robust_nlp.smoothing import SmoothedClassifier


def save(smoothed: SmoothedClassifier, folder: Path) -> dict[str, Any]:
    """Write everything but `smoothing.json`, whose content is returned.

    See `SmoothedClassifier.save_pretrained`.
    """
    from robust_nlp.huggingface import HuggingFaceClassifier

    denoised = smoothed.base if isinstance(smoothed.base, DenoisedClassifier) else None
    base = smoothed.base if denoised is None else denoised.base
    if not isinstance(base, HuggingFaceClassifier):
        raise ModelError("only smoothed Hugging Face classifiers can be saved")
    folder.mkdir(parents=True, exist_ok=True)
    # First what may be refused, so that no half of a classifier is left.
    helper = {} if denoised is None else {"denoiser": save_denoiser(folder, denoised)}
    noise = write_noise(folder, smoothed.mechanism)
    save_model(folder, base.model, base.tokenizer)
    if not (folder / "README.md").exists():
        (folder / "README.md").write_text(readme(smoothed), encoding="utf-8")
    return {
        **noise,
        "max_length": base.max_length,
        "prefix": base.prefix,
        "protected": base.protected,
        "dtype": str(base.model.dtype).removeprefix("torch."),
        **helper,
    }


def with_denoiser(
    base: BaseClassifier, folder: Path, settings: Mapping[str, Any], *, device: Any = None
) -> DenoisedClassifier:
    """Put the denoiser that was saved in a folder in front of its classifier.

    Args:
        base: The classifier.
        folder: The folder of the classifier.
        settings: The entry of `smoothing.json` about the denoiser.
        device: A torch device; `None` takes a GPU if there is one.

    Raises:
        ModelError: If it cannot be loaded.
    """
    try:
        protected, min_confidence = settings["protected"], settings["min_confidence"]
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder} does not say how its denoiser is used: {error!r}") from error
    return DenoisedClassifier(
        base,
        load_saved_denoiser(folder, device=device),
        protected=protected,
        min_confidence=min_confidence,
    )
