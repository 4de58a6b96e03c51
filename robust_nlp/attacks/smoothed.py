"""What attacks ask and what judges their finds, for smoothed classifiers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp

from robust_nlp.attacks.victim import Question, ScoreType, Verdict, remembered, to_logits
from robust_nlp.augmentation.victim import evaluation
from robust_nlp.base_classifier import CallableClassifier, Text
from robust_nlp.certification.confidence import confident_class
from robust_nlp.certification.plan import FixedPlan
from robust_nlp.embedding_noise import NoisyInput
from robust_nlp.encoding import ID
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.units import keyed_rng


class Oracle:
    """Soft vote shares for the search, with the same noise for all texts of a round.

    With common noise, two texts that differ in a word have votes that differ in what the word
    does, and in little else; noise of each text's own would drown it. A score is the mean
    probability over the noisy texts, which moves long before a vote does. For base classifiers
    that only give classes, it is the share of votes, with half a vote more for each class.

    Args:
        smoothed: The smoothed classifier.
        votes: Noisy texts per question, at least 1.
        seed: Seed of the noise.
        scores: What a function behind the base classifier returns; see `PlainVictim`.
    """

    def __init__(
        self,
        smoothed: SmoothedClassifier,
        votes: int,
        *,
        seed: int,
        scores: ScoreType | None = None,
    ) -> None:
        self.smoothed, self.cost, self._seed = smoothed, votes, seed
        #: Whether the search sees probabilities, and not votes alone.
        self.soft = isinstance(smoothed.base, HuggingFaceClassifier | CallableClassifier)
        self.score_type: ScoreType | None = scores
        self._known: dict[Hashable, FloatArray] = {}

    def score(self, questions: list[Question]) -> list[FloatArray]:
        """See `Scorer`."""
        rows: list[list[Any]] = []
        for question in questions:
            rng = keyed_rng(self._seed, "search", question.example, question.round)
            opened = self.smoothed.base.open(question.text, self.smoothed.mechanism)
            rows.append(list(opened.encode(opened.law.draw(self.cost, rng))))
        keys = list(dict.fromkeys(key for row in rows for key in row))
        if not self.soft:
            votes = dict(zip(keys, self.smoothed.base.classify(keys).tolist(), strict=True))
            classes = len(self.smoothed.labels)
            counts = [np.bincount([votes[key] for key in row], minlength=classes) for row in rows]
            return [np.log((count + 0.5) / (self.cost + 0.5 * classes)) for count in counts]
        # Noise on embeddings is never met again.
        plain = not any(isinstance(key, NoisyInput) for key in keys)
        known = self._known if plain else {}
        logits = dict(zip(keys, remembered(keys, known, self._logits), strict=True))
        return [
            self._mean(np.array([logits[key] for key in row]), question.temperature)
            for row, question in zip(rows, questions, strict=True)
        ]

    def _mean(self, logits: FloatArray, temperature: float) -> FloatArray:
        """Return the logarithm of the mean probabilities; shape `(classes,)`."""
        log_p = log_softmax(logits / temperature, axis=1)
        return np.asarray(logsumexp(log_p, axis=0) - np.log(len(log_p)))

    def _logits(self, keys: Sequence[Any]) -> list[FloatArray]:
        base = self.smoothed.base
        if isinstance(base, CallableClassifier):
            size = base._batch_size
            starts = range(0, len(keys), size)
            scores = [base._scores(list(keys[start : start + size])) for start in starts]
            return list(to_logits(np.concatenate(scores), self))
        assert isinstance(base, HuggingFaceClassifier)
        groups: dict[tuple[int, float], list[int]] = defaultdict(list)
        for i, key in enumerate(keys):
            shown = key.shown if isinstance(key, NoisyInput) else key
            groups[len(shown), getattr(key, "sigma", 0.0)].append(i)
        found: dict[int, FloatArray] = {}
        with evaluation(base.model):
            for (length, _), members in sorted(groups.items()):
                size = max(1, base.batch_tokens * ID.itemsize // length)
                for start in range(0, len(members), size):
                    batch = members[start : start + size]
                    found.update(zip(batch, base.scores([keys[i] for i in batch]), strict=True))
        return [found[i] for i in range(len(keys))]


class VotingJudge:
    """Hard votes with noise that no search has seen.

    With probability at most `alpha`, a verdict names a class that is not the most probable one.
    Where there are two looks, each has half of `alpha`, and the second is taken only if the first
    leaves a doubt. A text is judged once.

    Args:
        smoothed: The smoothed classifier.
        votes: Votes per text at most.
        alpha: Failure probability of each verdict, in `(0, 1)`.
        seed: Seed of the votes; they depend on it and on the text alone.
        first: Votes of a first look, fewer than `votes`; `None` for one look after all votes.
    """

    def __init__(
        self,
        smoothed: SmoothedClassifier,
        votes: int,
        *,
        alpha: float,
        seed: int,
        first: int | None = None,
    ) -> None:
        self.smoothed, self.cost = smoothed, votes
        looks = [votes] if first is None or first >= votes else [first, votes - first]
        self._alpha = alpha / len(looks)
        self._looks = [
            (int(keyed_rng(seed, "judge", look).integers(2**63)), size)
            for look, size in enumerate(looks)
        ]
        self._known: dict[Text, Verdict] = {}

    def judge(self, texts: list[Text]) -> list[Verdict]:
        """See `Judge`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        nothing = (0,) * len(self.smoothed.labels)
        found = dict.fromkeys(new, Verdict(None, nothing))
        for seed, votes in self._looks:
            doubtful = [text for text, verdict in found.items() if verdict.predicted is None]
            if not doubtful:
                break
            plan = FixedPlan(n_selection=1, n_estimation=votes, enumerate_when_cheaper=False)
            records = self.smoothed.votes(doubtful, plan, seed=seed)
            for text, record in zip(doubtful, records, strict=True):
                seen = zip(found[text].counts, record.votes.looks[-1], strict=True)
                counts = tuple(before + more for before, more in seen)
                found[text] = Verdict(confident_class(counts, alpha=self._alpha), counts)
        self._known |= found
        return [self._known[text] for text in texts]


def null_flip_rate(
    counts: Sequence[int], label: int, *, votes: int, questions: int, rng: np.random.Generator
) -> float:
    """Return how often an attack that changes nothing would see the class flip.

    It asks for the clean text again and again, with new noise, until the most votes go to another
    class: what is often reported as success is at least that frequent.

    Args:
        counts: The judge's votes on the clean text, by class.
        label: The class of the clean text.
        votes: Votes per question.
        questions: Questions that the real attack asked.
        rng: Draws questions; a thousand of them stand for all.

    Returns:
        The probability of at least one flip, in `[0, 1]`.
    """
    shares = np.asarray(counts, np.float64) / sum(counts)
    flips = float((rng.multinomial(votes, shares, size=1000).argmax(axis=1) != label).mean())
    return float(1.0 - (1.0 - flips) ** questions)
