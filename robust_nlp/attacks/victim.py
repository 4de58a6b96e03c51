"""What attacks ask and what judges their finds, for classifiers without noise."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from scipy.special import log_softmax

from robust_nlp.augmentation.victim import Victim, evaluation
from robust_nlp.base_classifier import CallableClassifier, Side, Text, decide, split_pair
from robust_nlp.encoding import ID, UnitEncoder
from robust_nlp.errors import ModelError
from robust_nlp.huggingface import TOLERANCE, HuggingFaceClassifier
from robust_nlp.inputs import read
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.memory import forget

K = TypeVar("K", bound=Hashable)

#: What a victim's classifier returns: numbers of any scale, or probabilities.
ScoreType = Literal["logits", "probabilities"]

#: Answers that a victim remembers; the oldest are forgotten first.
CACHE_ENTRIES = 200_000

#: Differences of logits, relative to one plus the largest, that padding may make.
PADDING_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}


class Question(NamedTuple):
    """A question of an attack.

    Attributes:
        text: The text, or pair.
        example: Id of the example under attack.
        round: Which noise is used, where there is noise: questions of one example and round share
            it.
        temperature: What logits are divided by before they become probabilities, above 0.
    """

    text: Text
    example: int
    round: int = 0
    temperature: float = 1.0


class Verdict(NamedTuple):
    """What a judge says about a text.

    Attributes:
        predicted: The class; `None` if the votes leave a doubt.
        counts: Votes by class; empty for a classifier without noise.
    """

    predicted: int | None
    counts: tuple[int, ...] = ()

    @property
    def cost(self) -> int:
        """Forwards of the base classifier behind it."""
        return sum(self.counts) if self.counts else 1


class Scorer(Protocol):
    """Answers the questions of attacks."""

    #: Forwards of the base classifier that a question costs.
    cost: int

    def score(self, questions: list[Question]) -> list[FloatArray]:
        """Return log-probabilities of the classes for each question; shape `(classes,)`."""
        ...


class Judge(Protocol):
    """Says which class a text has, with draws of its own."""

    #: Forwards of the base classifier that a verdict costs at most.
    cost: int

    def judge(self, texts: list[Text]) -> list[Verdict]:
        """Return the verdict on each text."""
        ...


def remembered(
    keys: Sequence[K], known: dict[K, FloatArray], fresh: Callable[[list[K]], list[FloatArray]]
) -> list[FloatArray]:
    """Return the scores of inputs, each scored once as long as it is remembered.

    Rounding differs with the batch in which an input is scored: what is equal must not be scored
    twice, or a change without any effect would look like a small one.
    """
    new = [key for key in dict.fromkeys(keys) if key not in known]
    if new:
        known.update(zip(new, fresh(new), strict=True))
    found = [known[key] for key in keys]
    forget(known, CACHE_ENTRIES)
    return found


class PlainVictim:
    """A classifier without noise, as attacks ask it.

    Texts are tokenized and truncated as in training and certification, sorted by length, and
    padded to the longest of their batch; where padding would change the answers of a model (one
    without a pad token, or one that reads the last position), batches hold texts of equal length.
    Equal inputs are classified once and get one answer, from whichever attack they come.

    Log-probabilities are in double precision. Scores of different inputs may differ by rounding
    with the batch in which they are computed: `batch_tokens=1` in the classifier computes each
    alone, which makes results in half precision reproducible.

    Args:
        classifier: A `HuggingFaceClassifier`, a `CallableClassifier`, or a function that takes
            texts or pairs and returns a row of scores each: an array, a tensor or lists.
        scores: What a function returns; `None` looks at its first answers: rows without negative
            numbers that sum to one are probabilities.
        protected: Which text of a pair is not attacked, for functions.
    """

    cost = 1

    def __init__(
        self,
        classifier: HuggingFaceClassifier | CallableClassifier | Callable[[list[Any]], Any],
        *,
        scores: ScoreType | None = None,
        protected: Side = "second",
    ) -> None:
        self.classifier = classifier
        #: Logits or probabilities; `None` as long as nobody knows.
        self.score_type: ScoreType | None = scores
        self.protected = protected
        self._batch_size = 256
        self._function: Callable[[list[Any]], Any] | None = None
        if isinstance(classifier, HuggingFaceClassifier):
            self.score_type, self.protected = "logits", classifier.protected
            self._encoder = UnitEncoder(classifier.tokenizer, "character", classifier.prefix)
        elif isinstance(classifier, CallableClassifier):
            self.protected, self._batch_size = classifier._protected, classifier._batch_size
            self._function = classifier._scores
        elif callable(classifier):
            self._function = classifier
        else:
            raise ModelError(
                "a victim is a HuggingFaceClassifier, a SmoothedClassifier, a CallableClassifier "
                f"or a function of texts; got {type(classifier).__name__}. For a model and its "
                "tokenizer write HuggingFaceClassifier(model, tokenizer)"
            )
        self._known: dict[Hashable, FloatArray] = {}
        self._pads: bool | None = None
        #: Forwards made, and in how many calls of the classifier.
        self.forwards = self.calls = 0

    @property
    def model(self) -> Any:
        """The model, or the function."""
        return getattr(self.classifier, "model", self.classifier)

    @property
    def gives_gradients(self) -> bool:
        """Whether there are gradients to rank words by."""
        return self._function is None and self.classifier.tokenizer.pad_token_id is not None  # type: ignore[union-attr]

    def score(self, questions: list[Question]) -> list[FloatArray]:
        """See `Scorer`."""
        logits = self.logits([question.text for question in questions])
        return [
            np.asarray(log_softmax(row / question.temperature))
            for row, question in zip(logits, questions, strict=True)
        ]

    def judge(self, texts: list[Text]) -> list[Verdict]:
        """Classify each text once more, without memory; alone where a batch leaves a doubt."""
        keys = self._keys(texts)
        tolerance = 1e-4 if self._function else TOLERANCE.get(self.model.dtype, 2e-2)
        votes, doubtful = decide(np.array(self._fresh(keys)), texts, tolerance=tolerance)
        for i in doubtful:
            votes[i] = self._fresh([keys[i]])[0].argmax()
        return [Verdict(vote) for vote in votes.tolist()]

    def logits(self, texts: list[Text], *, remember: bool = True) -> list[FloatArray]:
        """Return the logits of texts, or the logarithms of probabilities.

        Args:
            texts: Texts, or pairs.
            remember: Whether answers may come from memory.
        """
        keys = self._keys(texts)
        if not remember:
            return self._fresh(keys)
        return remembered(keys, self._known, self._fresh)

    def gradients(self, texts: list[Text]) -> list[dict[str, Any]]:
        """Return TextAttack's gradients of each text; see `robust_nlp.augmentation.Victim`."""
        victim = Victim(self.classifier)  # type: ignore[arg-type]
        return [victim.get_grad(text) for text in texts]

    def tokens(self, texts: list[Text], strip_prefix: bool = False) -> list[list[str]]:
        """Return the tokens of each text; see `robust_nlp.augmentation.Victim`."""
        return Victim(self.classifier).tokenize(texts, strip_prefix)  # type: ignore[arg-type]

    def _keys(self, texts: list[Text]) -> list[Any]:
        """Return what the classifier reads of each text."""
        if self._function is not None:
            return texts
        parts = [split_pair(text, self.protected) for text in texts]
        bodies = self._encoder.bodies_of_strings(
            [self._encoder.string([body]) for body, _ in parts]
        )
        build = self.classifier.builder.build  # type: ignore[union-attr]
        return [build([body], partner)[0] for body, (_, partner) in zip(bodies, parts, strict=True)]

    def _fresh(self, keys: list[Any]) -> list[FloatArray]:
        if not keys:
            return []
        self.forwards += len(keys)
        if self._function is not None:
            return list(self._from_function(keys))
        order = sorted(range(len(keys)), key=lambda i: len(keys[i]))
        found: dict[int, FloatArray] = {}
        for batch in self._batches(keys, order):
            rows = self._forward([keys[i] for i in batch])
            found.update(zip(batch, rows, strict=True))
        return [found[i] for i in range(len(keys))]

    def _from_function(self, texts: list[Text]) -> FloatArray:
        assert self._function is not None
        batches = []
        for start in range(0, len(texts), self._batch_size):
            batch = texts[start : start + self._batch_size]
            scores = self._function(batch)
            self.calls += 1
            if isinstance(scores, torch.Tensor):
                scores = scores.detach().double().cpu().numpy()
            batches.append(np.asarray(scores, dtype=np.float64))
            if batches[-1].ndim != 2 or len(batches[-1]) != len(batch):
                raise ModelError(
                    f"the classifier must return one row of scores for each of {len(batch)} texts; "
                    f"got shape {batches[-1].shape}"
                )
        scores = np.concatenate(batches)
        _check_finite(scores, texts)
        return to_logits(scores, self)

    def _batches(self, keys: list[bytes], order: list[int]) -> list[list[int]]:
        """Cut texts in the order of their length into batches of at most `batch_tokens` tokens."""
        limit = self.classifier.batch_tokens * ID.itemsize  # type: ignore[union-attr]
        pads = self._padding_is_harmless(keys, order)
        batches: list[list[int]] = []
        for i in order:
            last = batches[-1] if batches else []
            fits = last and (len(last) + 1) * len(keys[i]) <= limit
            if fits and (pads or len(keys[last[0]]) == len(keys[i])):
                last.append(i)
            else:
                batches.append([i])
        return batches

    def _padding_is_harmless(self, keys: list[bytes], order: list[int]) -> bool:
        """Tell whether the model gives a short text the same answer beside a long one."""
        short, long = keys[order[0]], keys[order[-1]]
        if self._pads is None and len(short) < len(long):
            if self.classifier.tokenizer.pad_token_id is None:  # type: ignore[union-attr]
                self._pads = False
            else:
                alone, beside = self._forward([short])[0], self._forward([short, long])[0]
                tolerance = PADDING_TOLERANCE.get(self.model.dtype, 5e-2)
                difference = np.abs(alone - beside).max() / (1.0 + np.abs(alone).max())
                self._pads = bool(difference <= tolerance)
        return bool(self._pads)

    def _forward(self, keys: list[bytes]) -> FloatArray:
        """Classify inputs in one batch; shape `(inputs, classes)`."""
        classifier: Any = self.classifier
        self.calls += 1
        try:
            with evaluation(self.model):
                if len(keys[0]) == len(keys[-1]):
                    logits: FloatArray = classifier.scores(keys)
                else:
                    with torch.no_grad():
                        logits = self.model(**self._padded(keys)).logits.double().cpu().numpy()
        except ValueError:  # some models refuse batches in which texts spell special tokens
            if len(keys) == 1:
                raise
            logits = np.concatenate([self._forward([key]) for key in keys])
        _check_finite(logits, keys, classifier.readable)
        return logits

    def _padded(self, keys: list[bytes]) -> dict[str, torch.Tensor]:
        pieces = [read([key]) for key in keys]
        shape = (len(keys), max(ids.shape[1] for ids, _ in pieces))
        batch = {
            "input_ids": np.full(shape, self.classifier.tokenizer.pad_token_id),  # type: ignore[union-attr]
            "attention_mask": np.zeros(shape, np.int64),
        }
        if pieces[0][1] is not None:
            batch["token_type_ids"] = np.zeros(shape, np.int64)
        for row, (ids, types) in enumerate(pieces):
            size = ids.shape[1]
            batch["input_ids"][row, :size] = ids[0]
            batch["attention_mask"][row, :size] = 1
            if types is not None:
                batch["token_type_ids"][row, :size] = types[0]
        return {
            name: torch.from_numpy(array).to(self.model.device) for name, array in batch.items()
        }


def to_logits(scores: FloatArray, owner: Any) -> FloatArray:
    """Return scores as logits; `owner.score_type` says what they are, or is told.

    Raises:
        ModelError: If they should be probabilities and are not.
    """
    proper = bool((scores >= 0.0).all()) and bool((np.abs(scores.sum(axis=1) - 1.0) <= 1e-3).all())
    if owner.score_type is None:
        owner.score_type = "probabilities" if proper else "logits"
    if owner.score_type == "logits":
        return scores
    if not proper:
        raise ModelError(
            f"expected probabilities that sum to one; got rows such as {scores[0].tolist()}. "
            'Say scores="logits" if the classifier returns logits'
        )
    return np.asarray(np.log(np.maximum(scores, 1e-300)))


def _check_finite(
    scores: FloatArray, inputs: Sequence[Any], readable: Callable[[Any], str] = str
) -> None:
    bad = ~np.isfinite(scores).all(axis=1)
    if bad.any():
        raise ModelError(
            f"the classifier gave scores that are not finite numbers (NaN or infinite) for "
            f"{int(bad.sum())} of {len(scores)} texts, the first of which is "
            f"{readable(inputs[int(bad.argmax())])[:200]!r}. Check the weights, or use float32."
        )
