"""A base classifier that reads noisy texts after they were repaired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from robust_nlp.base_classifier import BaseClassifier, OpenText, Side, Text, decide, split_pair
from robust_nlp.denoising.base import MASK, Denoiser, NoisyInput
from robust_nlp.denoising.contract import check_alone, repaired_texts
from robust_nlp.denoising.reading import protected_side, reader
from robust_nlp.encoding import ID, UnitEncoder
from robust_nlp.errors import ModelError
from robust_nlp.mechanisms.base import FloatArray, IntArray, Law, TextMechanism
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.memory import forget
from robust_nlp.units import join_units, split_units

if TYPE_CHECKING:
    from robust_nlp.denoising.embeddings import EmbeddingDecoder

#: Repaired texts whose answers are remembered; the oldest are forgotten first.
CACHE_ENTRIES = 500_000

#: Noisy texts that a denoiser repairs once more, alone, before its first votes.
SPOT_CHECKED = 4


class DenoisedClassifier:
    """A base classifier in front of which a denoiser repairs the noisy texts.

    Guarantees: whatever the mechanism guarantees, for any denoiser that honours its protocol.
        The vote on a noisy text is a function of the noisy text (and of protected text) alone: a
        denoiser receives noisy texts, its randomness is a hash of its seed and of the noisy text,
        and answers are merged by equal texts. So denoiser and base classifier together are one
        base classifier, and certificates hold for every base classifier. Several repaired versions
        of a noisy text share one vote, by the mean of their scores: they share the noise, so that
        they are not independent votes.
    Assumes: the denoiser keeps its protocol, which is checked on the first few noisy texts, and by
        `check_denoiser` as often as you like.
    Does not cover: changes of the denoiser or the base classifier; make a new `DenoisedClassifier`
        then, for it remembers answers.

    Noisy embeddings are decoded to tokens, one by one, and so to a noisy text, before anything else
    looks at them.

    Every noisy text is repaired once, and every repaired text classified once, however many
    noisy texts are repaired to it.

    Args:
        base: The base classifier, which need not know anything of the noise.
        denoiser: Repairs the noisy texts.
        protected: Which text of a pair neither noise nor attacker touches; `None` takes what the
            base classifier says, else "second".
        min_confidence: Under noise on embeddings: the probability in `[0, 1]` below which a token
            decoded from its noisy vector is written as a masked word; see `EmbeddingDecoder`.

    Source: Salman et al., Denoised Smoothing (NeurIPS 2020), with text in place of images.
    Departs: A random denoiser is fixed by its seed, so that equal noisy texts have equal votes, as
        enumeration and the merging of equal noisy texts need.
    """

    def __init__(
        self,
        base: BaseClassifier,
        denoiser: Denoiser,
        *,
        protected: Side | None = None,
        min_confidence: float = 0.5,
    ) -> None:
        self.base, self.denoiser = base, denoiser
        self.labels = base.labels
        self.protected = protected or protected_side(base)
        self._reader = reader(base, self.protected)
        self._tokens: UnitEncoder | None = None
        self._min_confidence = min_confidence
        self._decoders: dict[float, EmbeddingDecoder] = {}
        self._answers: dict[Text, int] = {}
        self._scores: dict[Text, FloatArray] = {}
        self._checked = False

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the base classifier, else that of the denoiser, else `None`."""
        own = getattr(self.denoiser, "tokenizer", None)
        return getattr(self.base, "tokenizer", own)

    @property
    def model(self) -> Any:
        """The model of the base classifier, where it has one; so too the properties below."""
        return self._of_base("model")

    @property
    def max_length(self) -> int:
        """Tokens of a repaired text that are read."""
        return int(self._of_base("max_length"))

    @property
    def prefix(self) -> str:
        """Fixed text before every repaired text."""
        return str(self._of_base("prefix"))

    def open(self, text: Text, mechanism: TextMechanism) -> OpenText:
        """Split a text into the mechanism's units; see `BaseClassifier`."""
        body, partner = split_pair(text, self.protected)
        if isinstance(mechanism, GaussianEmbedding):
            return self._open_vectors(text, mechanism)
        if mechanism.unit == "token":
            return self._open_tokens(body, mechanism, partner)
        unit = mechanism.unit
        units = split_units(body, unit)
        law = mechanism.law(units)
        shown = _shown([*units, *law.extra_units], law, mechanism)
        return _OpenNoisy(law, shown, partial(join_units, unit=unit), partner)

    def _open_tokens(self, body: str, mechanism: TextMechanism, partner: str | None) -> OpenText:
        tokenizer = self._of_base("tokenizer")
        if self._tokens is None:
            self._tokens = UnitEncoder(tokenizer, "token")
        units = self._tokens.units(body)
        law = mechanism.law(units)
        pieces = self._tokens.pieces(units, law.extra_units)
        ids = [] if pieces is None else pieces.first
        shown = _shown([str(np.frombuffer(piece, ID)[0]) for piece in ids], law, mechanism)
        return _OpenNoisy(law, shown, partial(_decoded, tokenizer=tokenizer), partner)

    def _open_vectors(self, text: Text, mechanism: GaussianEmbedding) -> OpenText:
        from robust_nlp.denoising.embeddings import EmbeddingDecoder, OpenDecoded
        from robust_nlp.huggingface import HuggingFaceClassifier

        base = self.base
        if not isinstance(base, HuggingFaceClassifier):
            raise ModelError("noise on embeddings needs a HuggingFaceClassifier, which has some")
        if base.prefix or not isinstance(text, str):
            raise ModelError(
                "noisy embeddings are decoded for single texts without a prefix only; noise words "
                "instead, or leave the denoiser out"
            )
        if mechanism.sigma not in self._decoders:
            self._decoders[mechanism.sigma] = EmbeddingDecoder(
                base, sigma=mechanism.sigma, min_confidence=self._min_confidence
            )
        write = partial(_decoded, tokenizer=base.tokenizer)
        return OpenDecoded(base.open(text, mechanism), self._decoders[mechanism.sigma], write, base)

    def classify(self, inputs: Sequence[NoisyInput]) -> IntArray:
        """Return the class of each noisy text; see `BaseClassifier`.

        Raises:
            ContractBroken: If the denoiser breaks its protocol.
            ModelError: If the base classifier gives scores that are not numbers.
        """
        noisy = list(dict.fromkeys(key.text for key in inputs))
        repaired = dict(zip(noisy, repaired_texts(self.denoiser, noisy), strict=True))
        if not self._checked and len(noisy) > 1:
            some = noisy[:: max(1, len(noisy) // SPOT_CHECKED)][:SPOT_CHECKED]
            check_alone(self.denoiser, some, [repaired[text] for text in some])
            self._checked = True
        versions = [
            [_whole(text, key.partner, self.protected) for text in repaired[key.text]]
            for key in inputs
        ]
        votes = np.empty(len(inputs), np.int64)
        alone = [i for i, texts in enumerate(versions) if len(set(texts)) == 1]
        several = [i for i, texts in enumerate(versions) if len(set(texts)) > 1]
        votes[alone] = self._classes([versions[i][0] for i in alone])
        votes[several] = self._mean_classes([versions[i] for i in several])
        return votes

    def _classes(self, texts: Sequence[Text]) -> list[int]:
        new = [text for text in dict.fromkeys(texts) if text not in self._answers]
        found = self.base.classify(self._reader.keys(new)) if new else np.empty(0, np.int64)
        self._answers.update(zip(new, found.tolist(), strict=True))
        answers = [self._answers[text] for text in texts]
        forget(self._answers, CACHE_ENTRIES)
        return answers

    def _mean_classes(self, versions: Sequence[Sequence[Text]]) -> list[int]:
        """Return the class with the largest mean score of each group of texts."""
        distinct = dict.fromkeys(text for texts in versions for text in texts)
        new = [text for text in distinct if text not in self._scores]
        if new:
            scores = self._reader.scores(self._reader.keys(new))
            self._scores.update(zip(new, scores, strict=True))
        answers = []
        for texts in versions:
            scores = np.array([self._scores[text] for text in texts])
            mean = scores.mean(axis=0, keepdims=True)
            answer = int(decide(mean, [texts], tolerance=0.0)[0][0])
            second, top = np.sort(mean[0])[-2:]
            if top - second <= self._reader.tolerance * (1.0 + np.abs(scores).max()):
                # Too close to call with scores that the texts beside them rounded.
                keys = self._reader.keys(texts)
                scores = np.concatenate([self._reader.scores([key]) for key in keys])
                answer = int(scores.mean(axis=0).argmax())
            answers.append(answer)
        forget(self._scores, CACHE_ENTRIES)
        return answers

    def _of_base(self, name: str) -> Any:
        try:
            return getattr(self.base, name)
        except AttributeError as error:
            raise ModelError(f"the base classifier has no {name}, which is needed here") from error


class _OpenNoisy:
    """One text whose noisy versions are written as strings."""

    def __init__(
        self,
        law: Law,
        shown: list[str],
        write: Callable[[list[str]], str],
        partner: str | None,
    ) -> None:
        self.law = law
        self._shown, self._write, self._partner = shown, write, partner

    def encode(self, rows: IntArray) -> list[NoisyInput]:
        shown = self._shown
        return [
            NoisyInput(self._write([shown[i] for i in row if i >= 0]), self._partner)
            for row in rows.tolist()
        ]


def _shown(units: list[str], law: Law, mechanism: TextMechanism) -> list[str]:
    """Write masks as `MASK`; a unit of the text that is the mask itself looks like a masked one."""
    mask: str | None = getattr(mechanism, "mask", None)
    if mask not in law.extra_units:
        return units
    written = units[law.n_units + law.extra_units.index(mask)]
    return [MASK if unit == written else unit for unit in units]


def _decoded(ids: list[str], tokenizer: Any) -> str:
    """Write kept tokens as text, run by run between the masks."""
    runs = []
    for masked, run in groupby(ids, key=lambda token: token == MASK):
        if masked:
            runs += list(run)
        else:
            kept = [int(token) for token in run]
            runs.append(tokenizer.decode(kept, clean_up_tokenization_spaces=False).strip())
    return " ".join(run for run in runs if run)


def _whole(text: str, partner: str | None, protected: Side) -> Text:
    if partner is None:
        return text
    return (partner, text) if protected == "first" else (text, partner)
