"""TextAttack's augmenters, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from robust_nlp.augmentation.base import Augmenter, check_rate
from robust_nlp.augmentation.textattack_import import (
    neighbours,
    own_randomness,
    textattack,
)
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.swaps import SwapSetting, load_swaps

Name = Literal["wordnet", "embedding", "eda", "charswap", "deletion", "checklist"]


@dataclass(frozen=True, kw_only=True)
class TextAttackAugmenter(Augmenter):
    """Rewrite texts with an augmenter of TextAttack (extra `attack`).

    Offered are those that are meant to keep the label. None guarantees it: "checklist" changes
    numbers, also where a number is the label's only sign. CLARE, back-translation and
    back-transcription are not offered: they need models from a hub, and rewrite freely.

    Stop words, "not" among them, are left alone by "wordnet", "embedding" and "charswap", but not
    by "deletion" and "eda". A text takes up to tenths of a second, so that copies are made once,
    before training, by `augment_rows`.

    Args:
        name: "wordnet" (synonyms of WordNet), "embedding" (`swaps`), "eda" (synonym, deletion, two
            words exchanged, or a synonym inserted), "charswap" (a letter exchanged, replaced,
            dropped or added), "deletion", or "checklist" (names, places, numbers, contractions;
            needs flair's model "ner").
        rate: Share of the words to change, in `(0, 1)`; at least one word is.
        swaps: For "embedding", which words may replace which; see
            `robust_nlp.swaps.AllowedSwaps`. TextAttack's own vectors are not downloaded.

    Raises:
        ValueError: If a setting is outside its range.

    Departs: TextAttack's "eda" makes all four changes in copies of their own and returns some of
        them; here each copy makes one of the four, drawn with equal probability. Candidates are
        sorted before one is drawn, since the order of Python's sets differs between processes.
    """

    name: Name
    rate: float = 0.1
    swaps: SwapSetting | None = field(default=None, hash=False)

    kind: ClassVar[str] = "textattack"
    slow: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_rate(self, self.rate)
        if self.name not in get_args(Name):
            raise ValueError(
                f"TextAttackAugmenter needs name to be one of {', '.join(get_args(Name))}; got "
                f"name={self.name!r}"
            )
        if (self.name == "embedding") != (self.swaps is not None):
            raise ValueError(
                "swaps, such as a neighbour file, belong to TextAttackAugmenter(name='embedding') "
                f"and only to it; got name={self.name!r} and swaps={self.swaps!r:.40}"
            )

    def rewrite(
        self,
        text: str,
        rng: np.random.Generator,
        importance: FloatArray | None = None,  # noqa: ARG002
    ) -> str:
        """Return a rewritten text; see `Augmenter`.

        Raises:
            MissingExtraError: If TextAttack cannot be imported.
            DataError: If data of NLTK or a model of flair is missing; the message says which.
        """
        choices = _load(self)
        with own_randomness(int(rng.integers(2**32))):
            chosen = choices[rng.integers(len(choices))]
            rewritten: str = chosen.augment(text)[0]
        return rewritten


class _InOrder:
    """A transformation whose candidates come in the order of their texts."""

    def __init__(self, transformation: Any) -> None:
        self._transformation = transformation

    def __call__(self, *args: Any, **kwargs: Any) -> list[Any]:
        return sorted(self._transformation(*args, **kwargs), key=lambda text: str(text.text))


@lru_cache(maxsize=16)
def _load(settings: TextAttackAugmenter) -> list[Any]:
    """Build the augmenters of TextAttack, of which each copy uses one."""
    from robust_nlp.attacks.plans import require  # which imports what imports this module

    package = textattack("augmentation")
    options = {"pct_words_to_swap": settings.rate, "transformations_per_example": 1}
    if settings.name in ("wordnet", "eda"):
        require(f"the augmenter {settings.name!r}", "wordnet")
    with own_randomness(0):
        if settings.name == "embedding":
            assert settings.swaps is not None
            swap = textattack("transformations").WordSwapEmbedding(
                max_candidates=50, embedding=neighbours(load_swaps(settings.swaps))
            )
            constraints = textattack("augmentation.recipes").DEFAULT_CONSTRAINTS
            built = [package.Augmenter(swap, constraints=constraints, **options)]
        elif settings.name == "eda":
            eda = package.EasyDataAugmenter(**options)
            insertion = eda.random_insertion.transformation
            synonyms = insertion._get_synonyms
            insertion._get_synonyms = lambda word: sorted(synonyms(word))
            built = [
                eda.synonym_replacement,
                eda.random_deletion,
                eda.random_swap,
                eda.random_insertion,
            ]
        else:
            if settings.name == "checklist":
                require("the augmenter 'checklist'", "flair-ner")
            names = {
                "wordnet": "WordNetAugmenter",
                "charswap": "CharSwapAugmenter",
                "deletion": "DeletionAugmenter",
                "checklist": "CheckListAugmenter",
            }
            built = [getattr(package, names[settings.name])(**options)]
    for augmenter in built:
        augmenter.transformation = _InOrder(augmenter.transformation)
    return built
