"""Hugging Face sequence classifiers as base classifiers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_nlp.base_classifier import OpenText, Side, Text, decide, split_pair
from robust_nlp.embedded import resolve_base
from robust_nlp.embedding_noise import NoisyInput, OpenVectors, check_embedding, noisy_embeddings
from robust_nlp.encoding import ID, OpenUnits, UnitEncoder
from robust_nlp.errors import ModelError
from robust_nlp.inputs import Ids, InputBuilder, read
from robust_nlp.loading import load_tokenizer
from robust_nlp.mechanisms.base import FloatArray, IntArray, Law, TextMechanism
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.threats import Unit

#: Scores closer than this, relative to their size, are computed again one text at a time: several
#: times the differences that batch shapes were seen to make in each precision.
TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.float16: 5e-3,
    torch.bfloat16: 2e-2,
}

#: What the classifier reads: ids, and under noise on embeddings also the seed of the noise.
Key = bytes | NoisyInput


class HuggingFaceClassifier:
    """Any `AutoModelForSequenceClassification`, encoder or decoder, with its tokenizer.

    Noisy texts are truncated after the noise, classified in batches of equal length without
    padding, in evaluation mode, and an input gets the same answer in every batch.

    Args:
        model: The model; it is put in evaluation mode while it classifies.
        tokenizer: Its tokenizer.
        max_length: Tokens that the model reads at most, special tokens included; `None` takes the
            smaller limit of tokenizer and model.
        prefix: Fixed text before every input, never noised.
        protected: Which text of a pair neither noise nor attacker touches.
        batch_tokens: Tokens in a batch; changes the speed, never a vote.

    Raises:
        ModelError: If the model has fewer than two labels or no room for text.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_length: int | None = None,
        prefix: str = "",
        protected: Side = "second",
        batch_tokens: int = 4096,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.prefix, self.protected = prefix, protected
        self.batch_tokens = batch_tokens
        n_labels = int(model.config.num_labels)
        if n_labels < 2:
            raise ModelError(
                f"a classifier needs two labels or more; this model has num_labels={n_labels} "
                "(a regression head?)"
            )
        if model.config.problem_type == "multi_label_classification":
            raise ModelError(
                "a multi-label model gives several answers to a text; certificates are about one"
            )
        names = model.config.id2label or {}
        self.labels = [str(names.get(i, names.get(str(i), i))) for i in range(n_labels)]
        limit = position_limit(model, tokenizer)
        self.max_length = limit if max_length is None else min(max_length, limit)
        self._encoders: dict[Unit, UnitEncoder] = {}
        self._embedding_checked = False
        self.builder = InputBuilder(tokenizer, max_length=self.max_length, protected=protected)
        if model.config.pad_token_id is None:  # decoders: nothing is padded, but they ask for it
            known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
            model.config.pad_token_id = next(i for i in known if i is not None)
        if self.builder.room < 1:
            raise ModelError(f"max_length={self.max_length} leaves no room for text")

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        max_length: int | None = None,
        prefix: str = "",
        protected: Side = "second",
        device: str | torch.device | None = None,
        dtype: str = "float32",
        batch_tokens: int = 4096,
    ) -> HuggingFaceClassifier:
        """Load a fine-tuned classifier from a folder or the Hub.

        Args:
            path: Folder or Hub id of a sequence classifier.
            revision: Hub revision.
            max_length: See the class, as `prefix`, `protected` and `batch_tokens`.
            prefix: See the class.
            protected: See the class.
            device: A torch device; `None` takes a GPU if there is one.
            dtype: Precision of the weights: "float32", "bfloat16" or "float16".
            batch_tokens: See the class.

        Raises:
            ModelError: If there is nothing to load, or the checkpoint has no classification head.
        """
        from transformers import AutoModelForSequenceClassification

        source = resolve_base(str(path))
        try:
            tokenizer = load_tokenizer(source, revision)
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                source, revision=revision, dtype=getattr(torch, dtype), output_loading_info=True
            )
        except (OSError, ValueError) as error:
            raise ModelError(
                f"cannot load a sequence classifier and its tokenizer from {source!r}: {error}"
            ) from error
        missing = sorted(loading["missing_keys"])
        if missing:
            raise ModelError(
                f"{source!r} has no trained classification head: {', '.join(missing[:4])} "
                "would be random. Fine-tune it first, for instance with: robust-nlp train"
            )
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(
            model.to(device),
            tokenizer,
            max_length=max_length,
            prefix=prefix,
            protected=protected,
            batch_tokens=batch_tokens,
        )

    def open(self, text: Text, mechanism: TextMechanism) -> OpenText:
        """Split a text into the mechanism's units; see `BaseClassifier`."""
        body, partner = split_pair(text, self.protected)
        encoder = self._encoder(mechanism.unit)
        units = encoder.units(body)
        if isinstance(mechanism, GaussianEmbedding):
            if not self._embedding_checked:
                check_embedding(self.model)
                self._embedding_checked = True
            return OpenVectors(units, mechanism, self.model, encoder, self.builder, partner)
        law = mechanism.law(units)
        return _OpenIds(law, encoder.open(units, law.extra_units), self, partner)

    def classify(self, inputs: Sequence[Key]) -> IntArray:
        """Return the class of each input; see `BaseClassifier`."""
        votes = np.empty(len(inputs), np.int64)
        by_shape: dict[tuple[int, float], list[int]] = defaultdict(list)
        for i, key in enumerate(inputs):
            by_shape[len(_shown(key)), getattr(key, "sigma", 0.0)].append(i)
        training = self.model.training
        self.model.eval()
        try:
            # What a model in training caches on the way must stay usable for its next step.
            with torch.no_grad() if training else torch.inference_mode():
                for (size, _), members in sorted(by_shape.items()):
                    rows = max(1, self.batch_tokens * ID.itemsize // size)
                    for start in range(0, len(members), rows):
                        batch = members[start : start + rows]
                        votes[batch] = self._votes([inputs[i] for i in batch])
        finally:
            self.model.train(training)
        return votes

    def scores(self, batch: Sequence[Key]) -> FloatArray:
        """Return the logits of inputs of equal length and noise; shape `(inputs, classes)`."""
        noisy = [key for key in batch if isinstance(key, NoisyInput)]
        ids, types = read([_shown(key) for key in batch])
        arguments = {"input_ids": self._tensor(ids)}
        if types is not None:
            arguments["token_type_ids"] = self._tensor(types)
        noise = noisy_embeddings(self.model, noisy) if noisy else nullcontext()
        with torch.no_grad(), noise:
            logits = self.model(**arguments).logits
        return np.asarray(logits.cpu().double().numpy())

    def readable(self, key: Key) -> str:
        """Decode an input for an error message."""
        ids = key.ids if isinstance(key, NoisyInput) else key
        return str(self.tokenizer.decode(read([ids])[0][0].tolist()))

    def _votes(self, batch: list[Key]) -> IntArray:
        tolerance = TOLERANCE.get(self.model.dtype, 2e-2)
        try:
            scores = self.scores(batch)
        except ValueError:  # some models refuse batches in which texts spell special tokens
            if len(batch) == 1:
                raise
            scores = np.concatenate([self.scores([key]) for key in batch])
        votes, doubtful = decide(scores, _Readable(batch, self), tolerance=tolerance)
        for i in doubtful:
            votes[i] = self.scores([batch[i]])[0].argmax()
        return votes

    def _tensor(self, ids: Ids) -> torch.Tensor:
        return torch.from_numpy(ids.astype(np.int64)).to(self.model.device)

    def _encoder(self, unit: Unit) -> UnitEncoder:
        if unit not in self._encoders:
            self._encoders[unit] = UnitEncoder(self.tokenizer, unit, self.prefix)
        return self._encoders[unit]


def position_limit(model: Any, tokenizer: Any) -> int:
    """Return how many tokens a model can read at most."""
    limits = [512]
    declared = int(tokenizer.model_max_length)
    positions = getattr(model.config, "max_position_embeddings", None)
    if declared < 1_000_000 or (positions or 0) > 0:
        limits = [limit for limit in (declared, positions) if limit and limit > 0]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - offset)
    return min(limits)


class _OpenIds:
    """One text, ready to be noised as ids."""

    def __init__(
        self,
        law: Law,
        opened: OpenUnits,
        classifier: HuggingFaceClassifier,
        partner: str | None,
    ) -> None:
        self.law = law
        self._opened, self._classifier, self._partner = opened, classifier, partner

    def encode(self, rows: IntArray) -> list[bytes]:
        return self._classifier.builder.build(self._opened.encode(rows), self._partner)


def _shown(key: Key) -> bytes:
    """What the model itself reads of an input."""
    return key.shown if isinstance(key, NoisyInput) else key


class _Readable(Sequence[str]):
    """Inputs, decoded only when an error message asks for one."""

    def __init__(self, batch: list[Key], classifier: HuggingFaceClassifier) -> None:
        self._batch, self._classifier = batch, classifier

    def __len__(self) -> int:
        return len(self._batch)

    def __getitem__(self, index: Any) -> Any:
        return self._classifier.readable(self._batch[index])
