"""From text to units and back, as the base classifier splits them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from robust_nlp.audit.ball import Ball
from robust_nlp.audit.candidates import ODD, telling_units
from robust_nlp.base_classifier import Text, split_pair
from robust_nlp.certification.certificates import Certificate
from robust_nlp.denoising.reading import protected_side
from robust_nlp.encoding import ID, UnitEncoder
from robust_nlp.errors import ModelError
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.units import join_units, split_units


class Writer:
    """Split one text into units, and write its attacked versions.

    Args:
        smoothed: The smoothed classifier, whose tokenizer splits a text into tokens.
        text: The clean text, or a pair of texts of which one is protected.
    """

    def __init__(self, smoothed: SmoothedClassifier, text: Text) -> None:
        self._smoothed = smoothed
        self._protected = protected_side(smoothed.base)
        self._unit = smoothed.mechanism.unit
        self._tokenizer: Any = getattr(smoothed.base, "tokenizer", None)
        self._encoder: UnitEncoder | None = None
        self.body, self.partner = split_pair(text, self._protected)
        self.units = self.split(self.body)

    def split(self, body: str) -> tuple[str, ...]:
        """Split a text into the mechanism's units; tokens are written as their ids."""
        if self._unit != "token":
            return tuple(split_units(body, self._unit))
        if self._encoder is None:
            self._encoder = UnitEncoder(self._need_tokenizer(), "token")
        return tuple(self._encoder.units(body))

    def write(self, units: Sequence[str]) -> str:
        """Join units to a text; it may split into other tokens than it is made of."""
        if self._unit != "token":
            return join_units(units, self._unit)
        ids = [int(unit) for unit in units]
        decoded = self._need_tokenizer().decode(ids, clean_up_tokenization_spaces=False)
        return str(decoded)

    def whole(self, body: str) -> Text:
        """Put the protected partner beside a text, where there is one."""
        if self.partner is None:
            return body
        return (self.partner, body) if self._protected == "first" else (body, self.partner)

    def ball(self, certificate: Certificate, words: Sequence[str] = ()) -> Ball:
        """Return the certified ball around the text.

        Args:
            certificate: A certificate of the text that does not abstain.
            words: What an attacker may want to write.
        """
        allowed = self.allowed()
        threat = certificate.threat
        if allowed is not None:
            threat = replace(threat, substitutes=lambda unit: allowed.get(unit, ()))
        assert certificate.radius is not None
        return Ball(
            clean=self.units,
            threat=threat,
            radius=certificate.radius,
            words=words,
            allowed=allowed,
        )

    def allowed(self) -> Mapping[str, Collection[str]] | None:
        """Return the covered substitutes of each unit of the clean text; `None` for any."""
        mechanism = self._smoothed.mechanism
        if isinstance(mechanism, GaussianEmbedding):
            return self._of_as_many_tokens(mechanism)
        find = mechanism.substitutes
        return None if find is None else {unit: find(unit) for unit in dict.fromkeys(self.units)}

    def _of_as_many_tokens(self, mechanism: GaussianEmbedding) -> Mapping[str, Collection[str]]:
        """Return the allowed substitutes that keep the number of tokens wherever the unit stands.

        These are the ones that certificates of noise on embeddings claim.
        """
        prefix = str(getattr(self._smoothed.base, "prefix", ""))
        encoder = UnitEncoder(self._need_tokenizer(), "word", prefix)
        distinct = list(dict.fromkeys(self.units))
        swaps = {unit: mechanism.allowed.of(unit) for unit in distinct}
        words = list(dict.fromkeys([*distinct, *(w for others in swaps.values() for w in others)]))
        pieces = encoder.pieces(words, ())
        place = {word: i for i, word in enumerate(words)}
        if pieces is None or any(place[unit] in pieces.unsafe for unit in distinct):
            return {}

        def tokens(word: str) -> tuple[int, int]:
            i = place[word]
            return len(pieces.first[i]) // ID.itemsize, len(pieces.later[i]) // ID.itemsize

        return {
            unit: [
                other
                for other in others
                if place[other] not in pieces.unsafe and tokens(other) == tokens(unit)
            ]
            for unit, others in swaps.items()
        }

    def _need_tokenizer(self) -> Any:
        if self._tokenizer is None:
            raise ModelError(
                "an audit in tokens needs the tokenizer of the base classifier, which has none"
            )
        return self._tokenizer


def words_by_class(
    smoothed: SmoothedClassifier,
    texts: Sequence[Text],
    predicted: Sequence[int | None],
    *,
    size: int,
) -> dict[int, tuple[str, ...]]:
    """Return, for each certified class, what an attacker may want to write; see `telling_units`.

    Args:
        smoothed: The smoothed classifier.
        texts: The texts of the audit.
        predicted: The certified class of each; texts without one say nothing.
        size: Units at most.
    """
    answered = [
        (Writer(smoothed, text).units, answer)
        for text, answer in zip(texts, predicted, strict=True)
        if answer is not None
    ]
    units = [each for each, _ in answered]
    classes = [answer for _, answer in answered]
    mechanism = smoothed.mechanism
    mask = getattr(mechanism, "mask", None)
    odd = [*ODD[mechanism.unit], *([mask] if mask and mechanism.unit == "word" else [])]
    return {
        certified: telling_units(units, classes, certified, size=size, odd=odd)
        for certified in sorted(set(classes))
    }
