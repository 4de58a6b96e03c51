"""Augmentation in recipes: which augmenters there are, and what is made with them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from robust_nlp.augmentation.base import Augmenter
from robust_nlp.augmentation.embedding import NoisyEmbeddings
from robust_nlp.augmentation.importance import DeleteImportantWords
from robust_nlp.augmentation.lengths import Crop
from robust_nlp.augmentation.noise import Noise
from robust_nlp.augmentation.textattack_augmenter import TextAttackAugmenter
from robust_nlp.augmentation.textattack_import import textattack_version
from robust_nlp.augmentation.words import DeleteWords, SwapWords, Typos
from robust_nlp.settings import build, plain
from robust_nlp.swaps import SwapSetting, load_swaps

#: The augmenters that a recipe may name by `kind`.
AnyAugmenter = (
    DeleteWords | DeleteImportantWords | Typos | SwapWords | Crop | Noise | TextAttackAugmenter
)


#: What environments may be made of as well.
AnyPerturbation = AnyAugmenter | NoisyEmbeddings


def augmenter_from(values: Any, *path: str, kinds: Any = AnyAugmenter) -> Augmenter:
    """Make an augmenter of plain values with a `kind`; an augmenter comes back as it is.

    Args:
        values: A mapping, as a recipe writes it.
        path: Where the values stand, for messages.
        kinds: Which kinds there are.

    Raises:
        RecipeError: If the values do not make an augmenter.
    """
    if isinstance(values, Augmenter):
        return values
    augmenter: Augmenter = build(kinds, values, *path)
    return augmenter


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Rewritten copies of each training text, beside the text itself.

    Attributes:
        augmenters: How copies are rewritten, one augmenter or several (see `AnyAugmenter`, or as
            plain values with a `kind`); each copy draws one of them anew in each epoch.
        copies: Copies of each text, at least 1.
        every: Epochs after which the importance of words, where an augmenter uses it, is measured
            again; at least 1.
    """

    augmenters: tuple[Any, ...]
    copies: int = 1
    every: int = 1

    def __post_init__(self) -> None:
        found = (augmenter_from(v, "augmenters", str(i)) for i, v in enumerate(self.augmenters))
        object.__setattr__(self, "augmenters", tuple(found))
        if not self.augmenters:
            raise ValueError("copies need one augmenter or more; got none")
        for name in ("copies", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)!r}")
        _check_fast(self.augmenters)
        if any(isinstance(augmenter, NoisyEmbeddings) for augmenter in self.augmenters):
            raise ValueError("noise on embeddings makes environments, and no copies of texts")


@dataclass(frozen=True, kw_only=True)
class Environments:
    """Perturbations as domains, for training that asks for the same behaviour in each.

    Attributes:
        perturbations: Name of each domain, and the augmenter that rewrites its texts, anew in each
            epoch; `None` leaves them as they are. `{kind: embedding_noise, sigma: 0.1}` leaves
            them as well, and puts Gaussian noise on their embeddings.
        mode: "replace" names each row's domain after the perturbation, and so needs no domains;
            "cross" after its own domain and the perturbation, such as "books/typos".
        assign: "all" shows each text in every domain, which makes an epoch that many times longer;
            "one" shows it in one of them, the same in all epochs, with domains of equal size.
        every: Epochs after which the importance of words, where an augmenter uses it, is measured
            again; at least 1.
    """

    perturbations: dict[str, Any]
    mode: Literal["replace", "cross"] = "replace"
    assign: Literal["all", "one"] = "all"
    every: int = 1

    def __post_init__(self) -> None:
        found = {
            name: None
            if value is None
            else augmenter_from(value, "perturbations", name, kinds=AnyPerturbation)
            for name, value in self.perturbations.items()
        }
        object.__setattr__(self, "perturbations", found)
        if len(self.perturbations) < 2:
            raise ValueError(
                "environments need two perturbations or more, such as {clean: null, typos: {kind: "
                f"typos}}}}; got {list(self.perturbations)}"
            )
        for name, allowed in (("mode", ("replace", "cross")), ("assign", ("all", "one"))):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}"
                )
        if self.every < 1:
            raise ValueError(f"every must be at least 1; got {self.every!r}")
        _check_fast(self.perturbations.values())

    @property
    def on_embeddings(self) -> bool:
        """Whether one of them is noise on embeddings, which `FishrTrainer` adds."""
        return any(isinstance(each, NoisyEmbeddings) for each in self.perturbations.values())


#: What `AdversarialExamples` may be made with.
Attack = Literal[
    "a2t",
    "bae",
    "bert-attack",
    "checklist",
    "clare",
    "deepwordbug",
    "iga",
    "pruthi",
    "pwws",
    "textbugger",
    "textfooler",
]


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Adversarial examples against the classifier in training, made anew every few epochs.

    Attributes:
        recipe: Recipe of TextAttack, all meant to keep the label. "a2t" is put together from
            `swaps` and NLTK's tagger, without a sentence encoder; the others are TextAttack's own
            and ask for their own resources.
        swaps: For "a2t", which words may replace which; see `robust_nlp.swaps.AllowedSwaps`.
        start: First epoch with adversarial examples, from 0.
        every: Epochs between attacks, at least 1.
        share: Share of the rows of each domain and label that is attacked each time, in `(0, 1]`.
        max_queries: Questions to the classifier per text at most; `None` for no limit.
        environment: Domain of adversarial rows; `None` leaves them in their domain, marked as
            augmented.
    """

    recipe: Attack = "a2t"
    swaps: SwapSetting | None = field(default=None, hash=False)
    start: int = 1
    every: int = 1
    share: float = 0.2
    max_queries: int | None = None
    environment: str | None = None

    def __post_init__(self) -> None:
        if (self.recipe == "a2t") != (self.swaps is not None):
            raise ValueError(
                'swaps, such as a neighbour file, belong to recipe="a2t" and only to it; got '
                f"recipe={self.recipe!r} and swaps={self.swaps!r:.40}"
            )
        if self.start < 0 or self.every < 1:
            raise ValueError(
                f"start must be at least 0 and every at least 1; got start={self.start!r} and "
                f"every={self.every!r}"
            )
        if not 0.0 < self.share <= 1.0:
            raise ValueError(f"share is a share in (0, 1]; got {self.share!r}")
        if self.max_queries is not None and self.max_queries < 1:
            raise ValueError(f"max_queries must be at least 1; got {self.max_queries!r}")


def _check_fast(augmenters: Iterable[Augmenter | None]) -> None:
    for augmenter in augmenters:
        if augmenter is not None and augmenter.slow:
            raise ValueError(
                f"{type(augmenter).__name__} is too slow to rewrite texts anew in each epoch: make "
                "copies once, before training, with robust_nlp.augmentation.augment_rows"
            )


def fingerprint(settings: Augmenter | Adversarial) -> str:
    """Return settings as a text that is equal only if they rewrite a text in the same way.

    It names the content of allowed swaps in place of their file, and the release of TextAttack.
    """
    values = plain(settings)
    for name in ("start", "every", "share", "environment"):  # these choose rows, and rewrite none
        values.pop(name, None)
    if values.get("swaps") is not None:
        values["swaps"] = load_swaps(values["swaps"]).fingerprint
    if isinstance(settings, (Adversarial, TextAttackAugmenter)):
        values["textattack"] = textattack_version()
    return json.dumps(values, sort_keys=True)
