"""The test texts of a study: which are measured, and what is deleted from them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from robust_nlp.augmentation.words import DeleteWords
from robust_nlp.base_classifier import Side, Text, parts, split_pair
from robust_nlp.data import Split
from robust_nlp.errors import DataError
from robust_nlp.study.settings import StudyRecipe
from robust_nlp.units import keyed_rng, text_key


@dataclass(frozen=True, kw_only=True)
class DomainTexts:
    """The test texts that are measured while one domain is held out.

    Attributes:
        held_out: Rows of the test split that are of the held-out domain, in random order: limits
            take the first.
        seen: Rows of each domain that training sees, in random order.
        repeats: Test rows of the held-out domain ("held_out") and of the others ("seen") that
            training or validation reads as well, left out or not.
        data: Content hashes of what training and validation read, and of the test rows.
    """

    held_out: tuple[int, ...]
    seen: Mapping[str, tuple[int, ...]]
    repeats: Mapping[str, int]
    data: Mapping[str, str]


def choose_texts(
    study: StudyRecipe,
    held_out: str,
    test: Split,
    train: Split,
    validation: Split,
    *,
    seed: int,
) -> DomainTexts:
    """Choose the test rows that are measured while a domain is held out.

    The choice depends on the seed and the splits alone, and so is the same for all variants.

    Args:
        study: Limits, and whether repeated texts are left out.
        held_out: The domain.
        test: The test split.
        train: What training reads.
        validation: What chooses the checkpoint.
        seed: Seed of the order.

    Raises:
        DataError: If the test rows have no labels, or none of the held-out domain is left.
    """
    if test.labels is None:
        raise DataError(f"a study needs labels; split {test.name!r} has none")
    read = {bare_words(text) for split in (train, validation) for text in split.texts}
    repeated = [bare_words(text) in read for text in test.texts]
    domains = test.domains or []
    order = keyed_rng(seed, "study-texts").permutation(len(test)).tolist()

    def rows(domain: str) -> tuple[int, ...]:
        known = [i for i in order if domains[i] == domain]
        kept = [i for i in known if not (study.drop_repeats and repeated[i])]
        return tuple(kept[: study.limit])

    measured = rows(held_out)
    if not measured:
        raise DataError(
            f"{test.description} (split {test.name!r}) has no rows of the domain {held_out!r}"
            + (" that training does not read" if held_out in domains else "")
        )
    others = sorted({name for name in train.domains or () if name is not None})
    seen = {name: rows(name) for name in others if rows(name)}
    everything = [*measured, *(i for rows_ in seen.values() for i in rows_)]
    return DomainTexts(
        held_out=measured,
        seen=seen,
        repeats={
            "held_out": sum(repeated[i] for i in order if domains[i] == held_out),
            "seen": sum(repeated[i] for i in order if domains[i] in others),
        },
        data={
            "train": train.content_hash,
            "validation": validation.content_hash,
            "test": test.rows(everything, "measured rows").content_hash,
        },
    )


@lru_cache(maxsize=1 << 18)
def bare_words(text: Text) -> str:
    """Return what two texts have in common that differ in case, punctuation and space at most.

    A text without any letter or digit is its own.
    """
    words = [re.findall(r"[^\W_]+", part.casefold()) for part in parts(text)]
    if not any(words):
        return repr(text)
    return "\n".join(" ".join(part) for part in words)


def with_deletions(
    texts: Sequence[Text], rate: float, *, draws: int, seed: int, protected: Side
) -> list[list[Text]]:
    """Return versions of each text in which each word is missing with the same probability.

    What is deleted depends on the seed, the text and the number of the version alone. One word at
    least stays.

    Args:
        texts: Texts, or pairs of which one is protected and stays.
        rate: Probability that a word is deleted, in `(0, 1)`.
        draws: Versions of each text.
        seed: Seed of the deletions.
        protected: Which text of a pair stays.
    """
    deletion = DeleteWords(rate=rate)

    def version(text: Text, draw: int) -> Text:
        open_, partner = split_pair(text, protected)
        rng = keyed_rng(seed, "study-deletion", text_key(*parts(text)), draw)
        rest = deletion.rewrite(open_, rng)
        if partner is None:
            return rest
        return (partner, rest) if protected == "first" else (rest, partner)

    return [[version(text, draw) for draw in range(draws)] for text in texts]
