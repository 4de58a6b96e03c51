"""Look at the checkpoint of a denoiser before it costs anything: no weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from robust_nlp.denoising.gaps import has_slots
from robust_nlp.denoising.settings import (
    AnyDenoiserSettings,
    MaskedLMSettings,
    denoiser_class,
    gap_masks_of,
)
from robust_nlp.embedded import resolve_base
from robust_nlp.errors import ModelError
from robust_nlp.loading import load_tokenizer
from robust_nlp.mechanisms.base import TextMechanism

#: Which table of `transformers` names the architectures of each kind of denoiser.
TABLES = {
    "masked_lm": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "seq2seq": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "causal_lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
}

#: How names of architectures end that predict no words.
WITHOUT_WORDS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


class Checkpoint(NamedTuple):
    """What a denoiser is made from.

    Attributes:
        tokenizer: Its tokenizer.
        trained: Whether its configuration names a head that predicts words; a masked language
            model without one must be trained first.
    """

    tokenizer: Any
    trained: bool


def check_checkpoint(
    settings: AnyDenoiserSettings, mechanism: TextMechanism, *, path: str | Path | None = None
) -> Checkpoint:
    """Check that a denoiser is there, is of the kind that it should be, and has room for text.

    Args:
        settings: What the recipe says.
        mechanism: The noise.
        path: Folder of a trained denoiser; `None` takes what the settings name.

    Raises:
        ModelError: If tokenizer or configuration cannot be loaded, the model is of another kind,
            the tokenizer has no mask token, lengths do not fit, or a masked language model has
            nothing to fill in under the noise.
    """
    from transformers import AutoConfig

    source = resolve_base(str(path or settings.model))
    revision = None if path else settings.revision
    try:
        tokenizer = load_tokenizer(source, revision)
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"denoiser.model: cannot load tokenizer and configuration of {source!r}: {error}"
        ) from error
    trained = _check_kind(settings.kind, source, config)
    _check_lengths(settings, mechanism, tokenizer, config)
    if isinstance(settings, MaskedLMSettings):
        _check_slots(settings, mechanism)
    return Checkpoint(tokenizer, trained)


def _check_kind(kind: str, source: str, config: Any) -> bool:
    """Return whether a model of this kind has its head."""
    from transformers.models.auto import modeling_auto

    made = list(config.architectures or ())
    heads = {
        other: _names(getattr(modeling_auto, table).get(config.model_type))
        for other, table in TABLES.items()
    }
    fitting = [other for other, names in heads.items() if set(names) & set(made)]
    if kind in fitting:
        return True
    what = f"denoiser.model: {source!r} is a {'/'.join(made) or config.model_type}"
    if fitting:
        raise ModelError(f"{what}, no model of kind {kind}; write denoiser.kind: {fitting[0]}")
    if not heads[kind]:
        possible = [other for other, names in heads.items() if names]
        raise ModelError(
            f"{what}, and models of type {config.model_type!r} cannot be of kind {kind}"
            + (f"; possible: {', '.join(possible)}" if possible else "")
        )
    if kind == MaskedLMSettings.kind:
        return any(name.endswith("ForPreTraining") for name in made)
    if made and all(_without_words(name) for name in made):
        raise ModelError(f"{what}, which has no trained head that writes words")
    return True


def _check_lengths(
    settings: AnyDenoiserSettings, mechanism: TextMechanism, tokenizer: Any, config: Any
) -> None:
    """Build the denoiser around a model without weights, which makes its own checks."""
    from transformers import GenerationConfig

    from robust_nlp.huggingface import position_limit

    model = SimpleNamespace(
        config=config,
        generation_config=GenerationConfig.from_model_config(config),
        named_modules=lambda: (),
    )
    limit = position_limit(model, tokenizer)
    if isinstance(settings, MaskedLMSettings) and (settings.max_length or 0) > limit:
        raise ModelError(
            f"denoiser.max_length={settings.max_length} is more than the {limit} tokens that the "
            "model can read; write no more, or null for as many"
        )
    kind, arguments = denoiser_class(settings, mechanism)
    try:
        kind(model, tokenizer, **arguments)
    except ModelError as error:
        raise ModelError(f"denoiser: {error}") from error


def _check_slots(settings: MaskedLMSettings, mechanism: TextMechanism) -> None:
    if not has_slots(mechanism, gap_masks_of(settings, mechanism)):
        raise ModelError(
            f"denoiser: {mechanism.kind} on {mechanism.unit}s neither masks nor loses words where "
            "one could tell, so that a masked language model has nothing to fill in; give "
            "gap_masks, take a denoiser of kind seq2seq or causal_lm, or none"
        )


def _names(entry: str | Sequence[str] | None) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else tuple(entry or ())


def _without_words(architecture: str) -> bool:
    bare = architecture.endswith("Model") and not architecture.endswith("LMHeadModel")
    return bare or architecture.endswith(WITHOUT_WORDS)
