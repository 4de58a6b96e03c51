"""Studies in recipes: which variants, domains and seeds are trained, and what is measured."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from robust_nlp.augmentation.settings import Adversarial, Attack
from robust_nlp.errors import did_you_mean
from robust_nlp.swaps import SwapSetting

#: Entries of a recipe that are the same for all variants, so that differences are the variants'.
SHARED = (
    "name",
    "schema",
    "seed",
    "study",
    "data",
    "denoiser",
    "certify.split",
    "train.train_split",
    "train.validation_split",
)


@dataclass(frozen=True, kw_only=True)
class StudyAttack:
    """The attack under which accuracy is measured.

    Attributes:
        recipe: Recipe of TextAttack; see `robust_nlp.augmentation.settings.Adversarial`, as for
            what follows.
        swaps: For "a2t", which words may replace which.
        max_queries: Questions to the classifier per text at most; `None` for no limit.
        limit: Test texts of the held-out domain that are attacked at most.
    """

    recipe: Attack = "deepwordbug"
    swaps: SwapSetting | None = field(default=None, hash=False)
    max_queries: int | None = None
    limit: int = 50

    def __post_init__(self) -> None:
        _ = self.adversarial  # which checks the settings
        _check_at_least_one(self, "limit")

    @property
    def adversarial(self) -> Adversarial:
        """The attack as augmentation knows it."""
        return Adversarial(recipe=self.recipe, swaps=self.swaps, max_queries=self.max_queries)


@dataclass(frozen=True, kw_only=True)
class StudyRecipe:
    """Each domain held out in turn, for each variant and seed.

    What is measured is measured on the test texts of the held-out domain, with the split that
    `certify.split` names, and on the same texts for all variants and seeds.

    Attributes:
        variants: Name of each variant, and the entries of the recipe that it replaces, as `--set`
            does: `{fishr: {train.domains.objective: fishr}}`. Names are those of folders.
        control: The variant that the others are compared with, paired by domain and seed.
        hold_out: Domains that are held out, one at a time; `None` for all of the training split
            that the recipe does not keep from training by itself.
        seeds: Seeds of training, each at least 0.
        validate_on: How many other held-out domains training does not see either, and validation
            has alone, to pick the checkpoint: selection by leaving domains out, in place of
            selection on the domains of training. Each seed takes the next ones, so that means over
            seeds are over choices, too.
        deleted: Probability with which each word is deleted, for the accuracy under missing words;
            `None` leaves that out.
        draws: Random deletions of each text, at least 1; accuracy is the mean over them.
        certify: Test texts of the held-out domain that are certified at most, with the mechanism
            and the plan of the recipe; `None` for none.
        attack: The attack under which accuracy is measured; `None` for none. It needs TextAttack.
        limit: Test texts of each domain at most, chosen at random; `None` takes all.
        drop_repeats: Whether test texts are left out that training or validation reads as well, in
            whatever case and punctuation.
        keep_models: Whether models are kept once they are measured.
    """

    variants: dict[str, dict[str, Any]]
    control: str
    hold_out: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    validate_on: int = 0
    deleted: float | None = 0.3
    draws: int = 5
    certify: int | None = None
    attack: StudyAttack | None = None
    limit: int | None = None
    drop_repeats: bool = True
    keep_models: bool = False

    def __post_init__(self) -> None:
        for name, entries in self.variants.items():
            if not re.fullmatch(r"\w[\w.+-]*", name):
                raise ValueError(
                    "the name of a variant is that of a folder: letters, digits and _ . + - only, "
                    f"a letter or digit first; got {name!r}"
                )
            for entry in entries:
                if any(f"{entry}.".startswith(f"{shared}.") for shared in SHARED):
                    raise ValueError(
                        f"variant {name!r} replaces {entry}, but all variants have the same "
                        f"{', '.join(SHARED)}"
                    )
        if self.control not in self.variants:
            raise ValueError(
                f"control names a variant, one of {', '.join(self.variants) or 'none'}; got "
                f"{self.control!r}.{did_you_mean(self.control, self.variants)}"
            )
        for what in ("hold_out", "seeds"):
            given = getattr(self, what)
            if given is not None and (not given or len(set(given)) < len(given)):
                raise ValueError(f"{what} needs one entry or more, none twice; got {list(given)}")
        if self.validate_on < 0:
            raise ValueError(f"validate_on must be at least 0; got {self.validate_on}")
        if min(self.seeds) < 0:
            raise ValueError(f"seeds must be at least 0; got {list(self.seeds)}")
        if self.deleted is not None and not 0.0 < self.deleted < 1.0:
            raise ValueError(f"deleted is a probability in (0, 1); got {self.deleted!r}")
        _check_at_least_one(self, "draws", "certify", "limit")


def _check_at_least_one(part: Any, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; got {name}={value}")
