"""Batches of noisy texts with the words that a denoiser should find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from robust_nlp.base_classifier import Side, split_pair
from robust_nlp.denoising.base import MASK
from robust_nlp.denoising.gaps import aligned, gap_counts
from robust_nlp.denoising.wording import NO_TARGET, Wording
from robust_nlp.errors import ModelError, RecipeError
from robust_nlp.mechanisms.base import IntArray, TextMechanism
from robust_nlp.smoothing import resolve_mask
from robust_nlp.training.epoch import EpochAware
from robust_nlp.units import keyed_rng, split_units


class FillCollator(EpochAware):
    """Noise texts as the mechanism does, and say which words a denoiser should find in its slots.

    Texts are laid out as `MaskedLMDenoiser` lays them out. An example is a dict with `text`,
    `example_id`, and where there are any `pair`, `label` and `answer` (of the frozen classifier to
    the clean text). Examples with `fixed` set have the same noise in every epoch. Noise depends on
    seed, epoch and example alone.

    The target of a masked word is the word, that of a slot in a gap the lost word that it is
    aligned with (see `robust_nlp.denoising.gaps.aligned`), where the word is a single token.

    Args:
        tokenizer: Tokenizer of the masked language model.
        mechanism: The law of the noise, on words that it leaves in their places.
        gap_masks: Masks to insert in each gap; see `MaskedLMDenoiser`.
        max_length: Tokens in an input at most, special tokens included.
        seed: Seed of the noise.
        protected: Which text of a pair is not noised; it is not read either.

    Raises:
        RecipeError: If the units of the mechanism are not words.
        ModelError: If the tokenizer has no mask or pad token.
    """

    def __init__(
        self,
        tokenizer: Any,
        mechanism: TextMechanism,
        *,
        gap_masks: float,
        max_length: int,
        seed: int = 0,
        protected: Side = "second",
    ) -> None:
        if mechanism.unit != "word":
            raise RecipeError(
                f"a denoiser is trained on words; got mechanism.unit={mechanism.unit!r}"
            )
        if tokenizer.pad_token_id is None:
            raise ModelError("the tokenizer has no pad token; set one, such as its eos token")
        super().__init__()
        self.wording = Wording(tokenizer, max_length)
        self._mechanism = resolve_mask(mechanism, tokenizer)
        self._gap_masks, self._seed, self._protected = gap_masks, seed, protected
        self._pad = int(tokenizer.pad_token_id)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return tensors with a row an example.

        `input_ids`, `attention_mask` and `targets` (`NO_TARGET` outside of slots) have a column a
        token; `labels` and `answers` are class indices, 0 where an example has none.
        """
        rows = [self._row(example) for example in examples]
        shape = (len(rows), max(len(ids) for ids, _ in rows))
        ids_, mask = torch.full(shape, self._pad), torch.zeros(shape, dtype=torch.int64)
        targets_ = torch.full(shape, NO_TARGET)
        for i, (ids, targets) in enumerate(rows):
            ids_[i, : len(ids)] = torch.from_numpy(ids)
            mask[i, : len(ids)] = 1
            targets_[i, : len(ids)] = torch.from_numpy(targets)
        return {
            "input_ids": ids_,
            "attention_mask": mask,
            "targets": targets_,
            "labels": torch.tensor([example.get("label") or 0 for example in examples]),
            "answers": torch.tensor([example.get("answer") or 0 for example in examples]),
        }

    def _row(self, example: Mapping[str, Any]) -> tuple[IntArray, IntArray]:
        pair = example.get("pair")
        whole = example["text"] if pair is None else (example["text"], pair)
        units = split_units(split_pair(whole, self._protected)[0], "word")
        when = ("fixed",) if example.get("fixed") else (self.epoch,)
        rng = keyed_rng(self._seed, "denoiser-noise", *when, example["example_id"])
        law = self._mechanism.law(units)
        row = law.draw(1, rng)[0]
        words, meant = noised(units, law.extra_units, row, self._mechanism, self._gap_masks)
        self.wording.learn([*units, *words])
        layout = self.wording.lay_out(words)
        template = self.wording.template
        ids = template.before + layout.body.tobytes() + template.after
        all_ids = np.frombuffer(ids, np.int32).astype(np.int64)
        targets = np.full(len(all_ids), NO_TARGET)
        for slot, member in zip(layout.slots, layout.members, strict=True):
            position = meant[member]
            if position is not None:
                target = self.wording.target(units[position], later=bool(slot > 0))
                targets[self.wording.offset + slot] = target
        return all_ids, targets


def noised(
    units: Sequence[str],
    extra_units: Sequence[str],
    row: IntArray,
    mechanism: TextMechanism,
    gap_masks: float,
) -> tuple[list[str | None], list[int | None]]:
    """Return a noisy text with slots, and which clean word each slot stands for.

    Args:
        units: The words of the clean text.
        extra_units: Words that the noise may add.
        row: The noisy text, as indices; see `robust_nlp.mechanisms.base.Law`.
        mechanism: The law of the noise.
        gap_masks: Masks to insert in each gap.

    Returns:
        Words, with `None` for a slot, as `robust_nlp.denoising.gaps.with_slots` gives them; and a
        position in the clean text for each word, `None` where there is no slot or it stands for
        nothing.

    Raises:
        RecipeError: If the noise moves words.
    """
    n = len(units)
    if len(row) != n or any(i not in (-1, place) and i < n for place, i in enumerate(row)):
        raise RecipeError(
            "a denoiser is trained under noise that leaves words in their places; "
            f"{mechanism.kind} moves them"
        )
    known = [*units, *extra_units]
    mask = getattr(mechanism, "mask", None)
    mask = mask if mask in extra_units else None
    shown: list[tuple[str | None, int | None]] = []
    lost: list[list[int]] = [[]]
    for place, i in enumerate(row.tolist()):
        if i < 0:
            lost[-1].append(place)
            continue
        hidden = known[i] == mask or MASK in known[i]
        shown.append((None, place) if hidden else (known[i], None))
        lost.append([])
    words: list[str | None] = []
    meant: list[int | None] = []
    counts = gap_counts(len(shown), gap_masks)
    for gap, count in enumerate(counts):
        words += [None] * count
        meant += aligned(lost[gap], count)
        if gap < len(shown):
            words.append(shown[gap][0])
            meant.append(shown[gap][1])
    return words, meant
