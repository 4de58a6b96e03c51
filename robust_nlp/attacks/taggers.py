"""Taggers that need no model of flair, in the form in which TextAttack asks flair's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

from robust_nlp.augmentation.textattack_import import textattack


class Gazetteer:
    """Names of people and places by the lists of TextAttack, as flair would tag them.

    A word counts if it is written with a capital and is no stop word. Of words that are a name and
    a place, places win. In texts without capitals, nothing is found.
    """

    def predict(self, sentence: Any, **_: Any) -> None:
        """Label each token of a sentence of flair."""
        for token, tag in zip(
            sentence.tokens, self.tags([token.text for token in sentence.tokens]), strict=True
        ):
            token.add_label("ner", tag, 1.0)

    def tags(self, words: Sequence[str]) -> list[str]:
        """Return the tag of each word, such as "S-PER", "B-LOC" or "O"."""
        first, last, places, longest, common = _names()
        tags = ["O"] * len(words)
        at = 0
        while at < len(words):
            size = next(
                (
                    n
                    for n in range(min(longest, len(words) - at), 0, -1)
                    if " ".join(words[at : at + n]) in places and words[at].lower() not in common
                ),
                0,
            )
            kind = "LOC"
            if not size and words[at] in first and words[at].lower() not in common:
                size, kind = 1, "PER"
                if at + 1 < len(words) and words[at + 1] in last:
                    size = 2
            if size == 1:
                tags[at] = f"S-{kind}"
            elif size:
                inside = [f"I-{kind}"] * (size - 2)
                tags[at : at + size] = [f"B-{kind}", *inside, f"E-{kind}"]
            at += size or 1
        return tags


class WordClasses:
    """Universal parts of speech by NLTK, as flair would tag them."""

    def predict(self, sentence: Any, **_: Any) -> None:
        """Label each token of a sentence of flair."""
        tag = import_module("nltk").pos_tag
        words = [token.text for token in sentence.tokens]
        for token, (_, kind) in zip(sentence.tokens, tag(words, tagset="universal"), strict=True):
            token.add_label("pos", kind, 1.0)


@cache
def _names() -> tuple[frozenset[str], frozenset[str], frozenset[str], int, frozenset[str]]:
    """Return first names, last names, places, the words of the longest place, and stop words."""
    data = textattack("shared.data")
    entities = data.NAMED_ENTITIES
    places = frozenset(
        place
        for kind in ("country", "nationality", "city")
        for place in entities[kind]
        if place[:1].isupper()
    )
    common = frozenset(import_module("nltk.corpus").stopwords.words("english"))
    return (
        frozenset(data.PERSON_NAMES["first"]),
        frozenset(data.PERSON_NAMES["last"]),
        places,
        max(len(place.split()) for place in places),
        common,
    )
