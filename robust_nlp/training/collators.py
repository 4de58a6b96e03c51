"""Batches of training texts with fresh noise for every example and epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import TrainerCallback

from robust_nlp.base_classifier import Side, split_pair
from robust_nlp.encoding import UnitEncoder
from robust_nlp.errors import ModelError, RecipeError
from robust_nlp.inputs import Ids, InputBuilder, read
from robust_nlp.mechanisms.base import IntArray, TextMechanism
from robust_nlp.smoothing import resolve_mask
from robust_nlp.training.epoch import EpochAware
from robust_nlp.units import keyed_rng


class NoisyCollator(EpochAware):
    """Turn examples into a padded batch of noisy texts.

    An example is a dict with `text`, `label`, `example_id`, and `pair` for the second text of a
    pair. Texts are split into units, noised, joined, tokenized, truncated and padded, in this
    order, as they are for certification.

    Noise depends on seed, epoch, example and draw alone: it is the same for any batch size, order
    of examples, number of worker processes and number of training processes, and after resuming.

    Args:
        tokenizer: Tokenizer of the classifier.
        mechanism: The law of the noise; `None` takes every text as it is.
        max_length: Tokens in an input at most, special tokens included.
        seed: Seed of the noise.
        rates: Range in `(0, 1)` from which each example draws a rate of its own in each epoch, in
            place of the mechanism's `p_del` or `p_mask`; `None` keeps the mechanism's rate.
        clean_share: Probability that an example goes without noise in an epoch, in `[0, 1]`.
        draws: Noisy texts per example. A batch has all first draws, then all second draws, ...;
            the draws of an example share its rate, and whether it is clean.
        prefix: Fixed text before every input, never noised.
        protected: Which text of a pair is never noised.

    Raises:
        RecipeError: If `rates` or `clean_share` are out of range, or the mechanism has no single
            rate that could be drawn.
        ModelError: If the tokenizer has no token to pad with, or masking finds no mask token.
    """

    def __init__(
        self,
        tokenizer: Any,
        mechanism: TextMechanism | None,
        *,
        max_length: int,
        seed: int = 0,
        rates: tuple[float, float] | None = None,
        clean_share: float = 0.0,
        draws: int = 1,
        prefix: str = "",
        protected: Side = "second",
    ) -> None:
        if rates is not None and not 0.0 < rates[0] <= rates[1] < 1.0:
            raise RecipeError(f"rates must be a range low, high within (0, 1); got {rates}")
        if not 0.0 <= clean_share <= 1.0:
            raise RecipeError(f"clean_share is a probability in [0, 1]; got {clean_share!r}")
        if tokenizer.pad_token_id is None:
            raise ModelError("the tokenizer has no pad token; set one, such as its eos token")
        self.mechanism = mechanism if mechanism is None else resolve_mask(mechanism, tokenizer)
        if rates is not None and self.mechanism is not None:
            try:
                self.mechanism.at_rate(rates[0])
            except ValueError as error:
                raise RecipeError(f"{error}; leave rates out") from error
        super().__init__()
        self._seed, self._rates, self._clean_share = seed, rates, clean_share
        self.draws, self._protected = draws, protected
        self._pad = tokenizer.pad_token_id
        self._encoder = UnitEncoder(
            tokenizer, "character" if mechanism is None else mechanism.unit, prefix
        )
        self._builder = InputBuilder(tokenizer, max_length=max_length, protected=protected)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask`, `labels`, and `token_type_ids` where they matter.

        All have `draws * len(examples)` rows.
        """
        texts, partners = [], []
        for example in examples:
            pair = example.get("pair")
            whole = example["text"] if pair is None else (example["text"], pair)
            text, partner = split_pair(whole, self._protected)
            texts.append(text)
            partners.append(partner)
        noisy = [
            self._noisy(text, example["example_id"], draw)
            for draw in range(self.draws)
            for text, example in zip(texts, examples, strict=True)
        ]
        bodies = self._bodies(noisy)
        inputs = [
            read(self._builder.build([body], partner))
            for body, partner in zip(bodies, partners * self.draws, strict=True)
        ]
        labels = [example["label"] for example in examples]
        return {**self._padded(inputs), "labels": torch.tensor(labels * self.draws)}

    def _noisy(self, text: str, example_id: int, draw: int) -> _Noisy:
        """Draw a noisy version of a text."""
        if self.mechanism is None:
            return _Noisy([text], (), np.arange(1)[None])
        units = self._encoder.units(text)
        key = (self.epoch, example_id)
        mechanism = self.mechanism
        settings = keyed_rng(self._seed, "train-rate", *key)
        if settings.random() < self._clean_share:
            return _Noisy(units, (), np.arange(len(units))[None])
        if self._rates is not None:
            mechanism = mechanism.at_rate(settings.uniform(*self._rates))
        rng = keyed_rng(self._seed, "train-noise", *key, draw)
        law = mechanism.law(units)
        return _Noisy(units, law.extra_units, law.draw(1, rng))

    def _bodies(self, noisy: list[_Noisy]) -> list[bytes]:
        if self.mechanism is not None and self.mechanism.unit == "token":
            return [
                self._encoder.open(text.units, text.extra_units).encode(text.rows)[0]
                for text in noisy
            ]
        strings = []
        for text in noisy:
            known = [*text.units, *text.extra_units]
            kept = [known[i] for i in text.rows[0].tolist() if i >= 0]
            strings.append(self._encoder.string(kept))
        return self._encoder.bodies_of_strings(strings)

    def _padded(self, inputs: list[tuple[Ids, Ids | None]]) -> dict[str, torch.Tensor]:
        """Pad on the right, where positions are those of an input without padding."""
        shape = (len(inputs), max(ids.shape[1] for ids, _ in inputs))
        ids_, mask = torch.full(shape, self._pad), torch.zeros(shape, dtype=torch.int64)
        batch = {"input_ids": ids_, "attention_mask": mask}
        if inputs[0][1] is not None:
            batch["token_type_ids"] = torch.zeros(shape, dtype=torch.int64)
        for row, (ids, types) in enumerate(inputs):
            size = ids.shape[1]
            ids_[row, :size] = torch.from_numpy(ids[0].astype(np.int64))
            mask[row, :size] = 1
            if types is not None:
                batch["token_type_ids"][row, :size] = torch.from_numpy(types[0].astype(np.int64))
        return batch


class _Noisy(NamedTuple):
    """A noisy text: a row of indices into units, shape `(1, width)`; see `Law`."""

    units: Sequence[str]
    extra_units: Sequence[str]
    rows: IntArray


class NoiseEpoch(TrainerCallback):
    """Tell a collator which epoch begins, before data are loaded for it.

    An epoch that is resumed in its middle goes on with its own noise.
    """

    def __init__(self, collator: NoisyCollator) -> None:
        self._collator = collator

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        # At the start of an epoch the Trainer's fractional epoch is a whole number up to rounding;
        # where it resumes, it lies inside the epoch.
        self._collator.epoch = int((state.epoch or 0.0) + 1e-6)
