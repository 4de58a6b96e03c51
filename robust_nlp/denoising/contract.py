"""The contract of a denoiser, as a check that anybody who writes one can run."""

from __future__ import annotations

from collections.abc import Sequence

from robust_nlp.denoising.base import Denoiser
from robust_nlp.testing import ContractBroken


def check_denoiser(denoiser: Denoiser, noisy: Sequence[str]) -> None:
    """Check that a denoiser repairs each noisy text by itself.

    A denoiser that looks at the other texts of a call, or remembers earlier ones, may put together
    what the noise hid, since many noisy versions of one text arrive together. Its votes prove
    nothing. Texts are repaired together, in the opposite order, and alone.

    Args:
        denoiser: The denoiser.
        noisy: Noisy texts, best several versions of one text.

    Raises:
        ContractBroken: If an answer depends on more than its noisy text, or is no list of texts.
    """
    together = repaired_texts(denoiser, noisy)
    backwards = repaired_texts(denoiser, noisy[::-1])[::-1]
    for text, first, second in zip(noisy, together, backwards, strict=True):
        _compare(text, first, second, "in another order")
    check_alone(denoiser, noisy, together)


def check_alone(
    denoiser: Denoiser, noisy: Sequence[str], together: Sequence[tuple[str, ...]]
) -> None:
    """Check that noisy texts are repaired alone as they were together.

    Raises:
        ContractBroken: If not.
    """
    for text, answer in zip(noisy, together, strict=True):
        _compare(text, answer, repaired_texts(denoiser, [text])[0], "alone")


def repaired_texts(denoiser: Denoiser, noisy: Sequence[str]) -> list[tuple[str, ...]]:
    """Return what a denoiser answers, one tuple of one or more texts for each noisy text.

    Raises:
        ContractBroken: If it answers anything else.
    """
    answers = list(denoiser.repair(noisy))
    if len(answers) != len(noisy):
        raise ContractBroken(
            f"{type(denoiser).__name__}.repair must answer each of {len(noisy)} noisy texts; got "
            f"{len(answers)} answers"
        )
    for text, answer in zip(noisy, answers, strict=True):
        if isinstance(answer, str) or not answer or {type(version) for version in answer} != {str}:
            raise ContractBroken(
                f"{type(denoiser).__name__}.repair must answer a noisy text with a list of one or "
                f"more repaired texts; got {answer!r:.80} for {text!r:.80}"
            )
    return [tuple(answer) for answer in answers]


def _compare(text: str, answer: tuple[str, ...], other: tuple[str, ...], how: str) -> None:
    if answer != other:
        raise ContractBroken(
            f"the denoiser repairs {text!r:.200} to {list(answer)!r:.300}, and {how} to "
            f"{list(other)!r:.300}. A repaired text must depend on its noisy text alone, else no "
            "certificate holds; draw at random from a hash of a seed and the noisy text."
        )
