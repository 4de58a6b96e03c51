"""The README.md of a smoothed classifier that is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robust_nlp.reporting.words import ATTACKER, NOT_COVERED
from robust_nlp.threats import attacker_name

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

    from robust_nlp.smoothing import SmoothedClassifier

#: What the metadata of a card says of every smoothed classifier.
TAGS = ["robustness", "randomized-smoothing", "certified-robustness"]

USE = """\
```python
from robust_nlp import SmoothedClassifier

smoothed = SmoothedClassifier.from_pretrained({name!r})
smoothed.as_pipeline(certify=True)("a text")
```

The checkpoint is also an ordinary sequence classifier, but what is said here about the smoothed \
classifier is not true of it."""


def readme(smoothed: SmoothedClassifier, name: str = "this-folder-or-repository") -> str:
    """Say what a smoothed classifier is and how to use it, as Markdown with metadata.

    It has no results; those of a run are in `robust_nlp.card.model_card`.

    Args:
        smoothed: The classifier.
        name: Folder or Hub id, for the example.
    """
    mechanism = smoothed.mechanism
    denoised = type(smoothed.base).__name__ == "DenoisedClassifier"
    repaired = (
        " Before the classifier reads a noisy text, the denoiser in `denoiser/` repairs it."
        if denoised
        else ""
    )
    lines = [
        f"---\n{metadata().to_yaml()}\n---",
        "# A smoothed text classifier",
        f"{mechanism.description}{repaired}",
        f"It can be certified against {attacker_name(mechanism.certifies)}, in {mechanism.unit}s. "
        + ATTACKER,
        USE.format(name=name),
        "Certificates do not cover:",
        "\n".join(f"- {each}" for each in (*mechanism.not_covered, *NOT_COVERED)),
    ]
    return "\n\n".join(lines) + "\n"


def metadata() -> ModelCardData:
    """Return the metadata that all smoothed classifiers share."""
    from huggingface_hub import ModelCardData

    return ModelCardData(
        library_name="robust-nlp", pipeline_tag="text-classification", tags=list(TAGS)
    )
