"""Where a language model is asked for words: at masks, and where words may have been lost."""

from __future__ import annotations

from collections.abc import Sequence

from robust_nlp.denoising.base import MASK
from robust_nlp.mechanisms.adaptive import AdaptiveDeletion
from robust_nlp.mechanisms.base import TextMechanism
from robust_nlp.mechanisms.combined import CombinedNoise
from robust_nlp.mechanisms.deletion import RandomizedDeletion
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.mechanisms.masking import RandomMasking

#: Most masks per gap that a mechanism calls for by itself: a model fills long runs at random.
MOST_MASKS = 1.0


def default_gap_masks(mechanism: TextMechanism) -> float:
    """Return how many masks to insert in each gap, on average, under a mechanism's noise.

    A gap is where the noisy text begins, where it ends, and between two of its words. Where words
    are deleted independently with probability p, the number of words lost in a gap of a long text
    is geometric with mean p / (1 - p), whatever else is known of the noisy text. Its mean is taken,
    up to `MOST_MASKS`; where deletion keeps no order, or units are not words, nothing is inserted.
    """
    if mechanism.unit == "character":
        return 0.0
    if isinstance(mechanism, AdaptiveDeletion):  # its rate depends on the length before the noise
        return MOST_MASKS
    if isinstance(mechanism, RandomizedDeletion | CombinedNoise):
        return min(MOST_MASKS, mechanism.p_del / (1.0 - mechanism.p_del))
    return 0.0


def has_slots(mechanism: TextMechanism, gap_masks: float) -> bool:
    """Tell whether noisy texts leave anything to fill in: masks, gaps, or vectors near no word.

    Args:
        mechanism: The noise.
        gap_masks: Masks to insert in each gap, on average.
    """
    if isinstance(mechanism, CombinedNoise) and mechanism.p_mask > 0.0:
        return True
    return gap_masks > 0.0 or isinstance(mechanism, RandomMasking | GaussianEmbedding)


def gap_counts(n_words: int, gap_masks: float) -> list[int]:
    """Spread masks evenly over the gaps of a noisy text.

    Args:
        n_words: Words of the noisy text, masked ones included. Nothing is inserted in an empty
            text, of which nothing is known.
        gap_masks: Masks per gap on average, at least 0.

    Returns:
        How many masks to insert before each word, and after the last.
    """
    gaps = n_words + 1
    total = int(gap_masks * gaps + 0.5) if n_words else 0
    return [(i + 1) * total // gaps - i * total // gaps for i in range(gaps)]


def with_slots(noisy: str, gap_masks: float) -> list[str | None]:
    """Return the words of a noisy text, and `None` wherever a word is asked for.

    A word of which any character is masked is asked for as a whole.
    """
    words = [None if MASK in word else word for word in noisy.split()]
    counts = gap_counts(len(words), gap_masks)
    found: list[str | None] = [None] * counts[0]
    for word, count in zip(words, counts[1:], strict=True):
        found += [word, *[None] * count]
    return found


def aligned(lost: Sequence[int], slots: int) -> list[int | None]:
    """Say which lost word each inserted slot of a gap stands for.

    Slots and words are matched in order and evenly: with fewer slots than words, each slot stands
    for the word in the middle of its share; with more, each word for the slot in the middle of its
    share, and the other slots for nothing.

    Args:
        lost: Positions in the clean text of the words that were lost in the gap.
        slots: Slots in the gap.

    Returns:
        A position, or `None`, for each slot.
    """
    if len(lost) >= slots:
        return [lost[(2 * i + 1) * len(lost) // (2 * slots)] for i in range(slots)]
    found: list[int | None] = [None] * slots
    for j, position in enumerate(lost):
        found[(2 * j + 1) * slots // (2 * len(lost))] = position
    return found
