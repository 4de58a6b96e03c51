"""Denoisers as plain files in a folder beside the classifier that they help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robust_nlp.denoising.base import Denoiser
from robust_nlp.denoising.classifier import DenoisedClassifier
from robust_nlp.errors import ModelError
from robust_nlp.sharing.plain import save_model

#: The folder of the denoiser in that of the classifier, and the file there with its settings.
FOLDER = "denoiser"
FILE = "denoiser.json"

_SHARED = ("fills", "temperature", "seed")
#: What decides the answers of each kind of denoiser, besides weights and tokenizer.
SETTINGS = {
    "masked_lm": ("gap_masks", "rounds", "max_length", *_SHARED),
    "seq2seq": ("prompt", "mask", "max_new_tokens", *_SHARED),
    "causal_lm": ("prompt", "mask", "max_new_tokens", *_SHARED),
}


def save_denoiser(folder: Path, denoised: DenoisedClassifier) -> dict[str, Any]:
    """Save the denoiser of a classifier in its own folder.

    Args:
        folder: The folder of the classifier.
        denoised: The classifier with its denoiser.

    Returns:
        The entry of `smoothing.json` about it.

    Raises:
        ModelError: If the denoiser is not one of this package, or not in single precision, in
            which denoisers are loaded.
    """
    import torch

    from robust_nlp import __version__

    denoiser: Any = denoised.denoiser
    kind = _kind(denoiser)
    if denoiser.model.dtype != torch.float32:
        raise ModelError(
            f"denoisers are saved in single precision, in which they are loaded; this one is in "
            f"{str(denoiser.model.dtype).removeprefix('torch.')}. Use denoiser.model.float()."
        )
    into = folder / FOLDER
    save_model(into, denoiser.model, denoiser.tokenizer)
    noise = denoiser._noise
    drawn = {"temperature": noise.temperature, "seed": noise._seed}
    settings = {
        name: drawn[name] if name in drawn else getattr(denoiser, name) for name in SETTINGS[kind]
    }
    content = {"robust_nlp": __version__, "kind": kind, **settings}
    (into / FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return {
        "kind": kind,
        "protected": denoised.protected,
        "min_confidence": denoised._min_confidence,
    }


def load_saved_denoiser(folder: Path, *, device: Any = None) -> Denoiser:
    """Load the denoiser that was saved with a classifier.

    Args:
        folder: The folder of the classifier.
        device: A torch device; `None` takes a GPU if there is one.

    Raises:
        ModelError: If there is none, or its settings cannot be read.
    """
    path = folder / FOLDER / FILE
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings.pop("robust_nlp", None)
        kind = settings.pop("kind")
        unknown = sorted(set(settings) - set(SETTINGS[kind]))
        if unknown:
            raise ValueError(f"unknown settings {', '.join(unknown)}")
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} does not say how to repair texts: {error!r}") from error
    denoiser: Denoiser = _classes()[kind].from_pretrained(path.parent, device=device, **settings)
    return denoiser


def _kind(denoiser: Any) -> str:
    for kind, each in _classes().items():
        if type(denoiser) is each:
            return kind
    raise ModelError(
        f"a {type(denoiser).__name__} cannot be saved: what it does is in its code. Only "
        f"{', '.join(each.__name__ for each in _classes().values())} can; save the classifier "
        "behind it, `smoothed.base.base`, by itself"
    )


def _classes() -> dict[str, Any]:
    from robust_nlp.denoising.generative import CausalLMDenoiser, Seq2SeqDenoiser
    from robust_nlp.denoising.masked_lm import MaskedLMDenoiser

    return {
        "masked_lm": MaskedLMDenoiser,
        "seq2seq": Seq2SeqDenoiser,
        "causal_lm": CausalLMDenoiser,
    }
