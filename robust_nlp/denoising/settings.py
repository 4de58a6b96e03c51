"""Denoisers in recipes: their settings, and how they are loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from robust_nlp.mechanisms.base import TextMechanism

if TYPE_CHECKING:
    from robust_nlp.denoising.base import Denoiser

#: What a causal language model is asked by default.
PROMPT = (
    "Rewrite the text with a suitable word in place of each [MASK].\nText: {text}\nRewritten text:"
)


@dataclass(frozen=True, kw_only=True)
class DenoiserTraining:
    """How a masked language model is trained to repair texts under the mechanism's noise.

    Attributes:
        train_split: Split to train on.
        validation_split: Split whose loss chooses the checkpoint.
        reconstruct: Weight of the cross-entropy of the clean words in their slots, at least 0. The
            only objective that needs no classifier.
        stability: Weight of the cross-entropy of the classifier's answers to repaired texts
            against its own answers to the clean texts, at least 0.
        classification: The same against the true labels.
        classifier: Folder of the frozen classifier of the last two; `None` takes the one that the
            recipe certifies. Its tokenizer must be that of the denoiser.
        limit: Texts at most, from the start; `None` takes all.
        args: `transformers.TrainingArguments`, by name.
    """

    train_split: str = "train"
    validation_split: str = "validation"
    reconstruct: float = 1.0
    stability: float = 0.0
    classification: float = 0.0
    classifier: str | None = None
    limit: int | None = None
    args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weights = (self.reconstruct, self.stability, self.classification)
        if not min(weights) >= 0.0 or not sum(weights) > 0.0:
            raise ValueError(
                "reconstruct, stability and classification are weights of at least 0, one of them "
                f"above 0; got {weights}"
            )
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1; got {self.limit}")


@dataclass(frozen=True, kw_only=True)
class MaskedLMSettings:
    """A masked language model that fills masks, and gaps where words were lost.

    Attributes:
        model: Folder, Hub id, or "embedded:minilm", which needs training first.
        revision: Hub revision.
        gap_masks: Masks to insert in each gap between words, on average; `None` takes what the
            mechanism's rate of deletion says, up to one.
        fills: Repaired versions of each noisy text, whose scores are averaged inside its vote.
        rounds: In how many rounds slots are filled, the surest first.
        temperature: 0 fills in the most probable words; above, words are drawn.
        seed: Seed of the draws.
        max_length: Tokens that the model reads at most; `None` takes its own limit.
        batch_tokens: Tokens in a batch; changes the speed, never an answer.
        train: Fine-tuning under the mechanism's noise.
    """

    model: str
    revision: str | None = None
    gap_masks: float | None = None
    fills: int = 1
    rounds: int = 1
    temperature: float = 0.0
    seed: int = 0
    max_length: int | None = None
    batch_tokens: int = 1024
    train: DenoiserTraining = field(default_factory=DenoiserTraining)

    kind: ClassVar[str] = "masked_lm"

    @property
    def description(self) -> str:
        """Say in a sentence what the denoiser does, for reports."""
        return (
            "Before the classifier reads a noisy text, a masked language model fills in its gaps"
            + _versions(self.fills)
        )

    def __post_init__(self) -> None:
        check_draws(self.fills, self.temperature, self.seed)
        if self.gap_masks is not None and not self.gap_masks >= 0.0:
            raise ValueError(f"gap_masks is a number of at least 0; got {self.gap_masks!r}")
        for name in ("rounds", "max_length", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}")


@dataclass(frozen=True, kw_only=True)
class GenerativeSettings:
    """What denoisers that write the whole text share.

    Attributes:
        model: Folder or Hub id.
        revision: Hub revision.
        prompt: What the model reads, with {text} for the noisy text.
        mask: How masked units are written in the noisy text.
        max_new_tokens: Tokens of a repaired text, at most.
        fills: Repaired versions of each noisy text, whose scores are averaged inside its vote.
        temperature: 0 writes the most probable tokens; above, tokens are drawn.
        seed: Seed of the draws.
        batch_tokens: Tokens in a batch; changes the speed, never an answer.
    """

    model: str
    revision: str | None = None
    prompt: str = "{text}"
    mask: str = "<mask>"
    max_new_tokens: int = 64
    fills: int = 1
    temperature: float = 0.0
    seed: int = 0
    batch_tokens: int = 4096

    @property
    def description(self) -> str:
        """Say in a sentence what the denoiser does, for reports."""
        return (
            "Before the classifier reads a noisy text, a language model writes it anew"
            + _versions(self.fills)
        )

    def __post_init__(self) -> None:
        check_draws(self.fills, self.temperature, self.seed)
        check_prompt(self.prompt)
        for name in ("max_new_tokens", "batch_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Seq2SeqSettings(GenerativeSettings):
    """A sequence-to-sequence model, such as BART; see `GenerativeSettings`."""

    kind: ClassVar[str] = "seq2seq"


@dataclass(frozen=True, kw_only=True)
class CausalLMSettings(GenerativeSettings):
    """A causal language model that is asked to repair the text; see `GenerativeSettings`."""

    prompt: str = PROMPT
    mask: str = "[MASK]"

    kind: ClassVar[str] = "causal_lm"


#: The denoisers that a recipe may name by `kind`.
AnyDenoiserSettings = MaskedLMSettings | Seq2SeqSettings | CausalLMSettings


def load_denoiser(
    settings: AnyDenoiserSettings,
    mechanism: TextMechanism,
    *,
    path: str | Path | None = None,
    device: Any = None,
) -> Denoiser:
    """Load the denoiser of a recipe.

    Args:
        settings: What the recipe says.
        mechanism: The noise, whose rate of deletion says how many masks to insert.
        path: Folder of a trained denoiser; `None` takes what the settings name.
        device: A torch device; `None` takes a GPU if there is one.

    Raises:
        ModelError: If it cannot be loaded, or needs training first.
    """
    source, revision = str(path or settings.model), None if path else settings.revision
    kind, arguments = denoiser_class(settings, mechanism)
    denoiser: Denoiser = kind.from_pretrained(source, revision=revision, device=device, **arguments)
    return denoiser


def denoiser_class(
    settings: AnyDenoiserSettings, mechanism: TextMechanism
) -> tuple[Any, dict[str, Any]]:
    """Return the class of the denoiser that settings describe, and its arguments.

    Args:
        settings: What the recipe says.
        mechanism: The noise; see `load_denoiser`.
    """
    names = ["fills", "temperature", "seed", "batch_tokens"]
    if isinstance(settings, MaskedLMSettings):
        from robust_nlp.denoising.masked_lm import MaskedLMDenoiser

        kind: Any = MaskedLMDenoiser
        names += ["rounds", "max_length"]
        more = {"gap_masks": gap_masks_of(settings, mechanism)}
    else:
        from robust_nlp.denoising import generative

        kinds = {"seq2seq": generative.Seq2SeqDenoiser, "causal_lm": generative.CausalLMDenoiser}
        kind = kinds[settings.kind]
        names += ["prompt", "mask", "max_new_tokens"]
        more = {}
    return kind, {name: getattr(settings, name) for name in names} | more


def gap_masks_of(settings: MaskedLMSettings, mechanism: TextMechanism) -> float:
    """Return how many masks the settings call for in each gap under a mechanism's noise."""
    from robust_nlp.denoising.gaps import default_gap_masks

    return default_gap_masks(mechanism) if settings.gap_masks is None else settings.gap_masks


def _versions(fills: int) -> str:
    return "." if fills == 1 else f", in {fills} versions that share one vote."


def check_draws(fills: int, temperature: float, seed: int) -> None:
    """Raise ValueError unless so many versions can be drawn at this temperature."""
    if fills < 1:
        raise ValueError(f"fills must be at least 1; got {fills}")
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"temperature is a number of at least 0; got {temperature!r}")
    if fills > 1 and temperature == 0.0:
        raise ValueError(
            f"fills={fills} versions would all be the same at temperature=0; write fills=1, or a "
            "temperature above 0"
        )
    if seed < 0:
        raise ValueError(f"seed must be at least 0; got {seed}")


def check_prompt(prompt: str) -> None:
    """Raise ValueError unless a prompt says where the noisy text goes."""
    if prompt.count("{text}") != 1:
        raise ValueError(f"prompt must hold {{text}} once, for the noisy text; got {prompt!r}")
