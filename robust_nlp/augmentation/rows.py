"""Training rows whose texts are drawn anew in each epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from robust_nlp.augmentation.base import Augmenter, augment
from robust_nlp.augmentation.embedding import NoisyEmbeddings
from robust_nlp.augmentation.settings import Copies, Environments
from robust_nlp.base_classifier import Side, Text, split_pair
from robust_nlp.errors import DataError
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.training.epoch import EpochAware
from robust_nlp.units import keyed_rng

#: A row as `NoisyCollator` takes it: `text`, `label`, `example_id`, and if there are any `pair` and
#: `domain`. Rows of ours also have `source_id`, the id of the row that a row was made from, and
#: `augmented`, whether it is to be left out of statistics of its domain.
Row = dict[str, Any]


def whole_text(row: Mapping[str, Any]) -> Text:
    """Return the text of a row, or both texts of a pair."""
    return row["text"] if row.get("pair") is None else (row["text"], row["pair"])


def with_text(row: Mapping[str, Any], text: Text) -> Row:
    """Return a row with another text, or another pair of texts."""
    return (
        {**row, "text": text}
        if isinstance(text, str)
        else {**row, "text": text[0], "pair": text[1]}
    )


def with_open_text(row: Mapping[str, Any], text: str, protected: Side) -> Row:
    """Return a row with another text in place of the one that is not protected."""
    paired = row.get("pair") is not None
    return {**row, "pair" if paired and protected == "first" else "text": text}


def checked_rows(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return rows with `pair`, `source_id` and `augmented` filled in.

    Raises:
        DataError: If there is none, one lacks an entry, or two have the same `example_id`.
    """
    checked = []
    for position, row in enumerate(rows):
        missing = {"text", "label", "example_id"} - set(row)
        if missing or not isinstance(row["text"], str):
            raise DataError(
                "a training row needs text, label and example_id; row "
                f"{position} lacks {', '.join(sorted(missing)) or 'a text that is text'}"
            )
        filled = {"pair": None, "source_id": row["example_id"], "augmented": False}
        checked.append({**filled, **row})
    if not checked:
        raise DataError("expected training rows; got none")
    if len({row["example_id"] for row in checked}) < len(checked):
        raise DataError("two training rows have the same example_id, which must be unique")
    return checked


def next_id(rows: Sequence[Row]) -> int:
    """Return a number above all ids of examples; copy k of a row has its id plus k of these.

    Raises:
        DataError: If an id is not a whole number of at least 0.
    """
    ids = [row["example_id"] for row in rows]
    for i in ids:
        if not isinstance(i, (int, np.integer)) or i < 0:
            raise DataError(f"example_id must be a whole number of at least 0; got {i!r}")
    return max(int(i) for i in ids) + 1


@dataclass(frozen=True)
class Slot:
    """A place in a training set: what stands there in every epoch, and how it is rewritten.

    Attributes:
        row: The row, with the text that is rewritten.
        augmenters: One of them rewrites the text, drawn anew in each epoch; without any, the text
            stays as it is.
        copy: What tells the randomness of this place from that of others with the same source.
    """

    row: Row
    augmenters: tuple[Augmenter, ...] = ()
    copy: int | str = 0


class DrawnRows(EpochAware, Dataset[Row]):
    """Rows whose texts depend on the epoch, the seed, and their source alone.

    Number, labels, domains and ids of the rows are the same in every epoch, so that samplers may
    look at them once. A `RefreshRows` callback tells which epoch it is.

    Args:
        slots: The rows.
        seed: Seed of the randomness.
        protected: Which text of a pair is never rewritten.
        every: Epochs after which the importance of words is measured again.
    """

    def __init__(
        self, slots: Sequence[Slot], *, seed: int = 0, protected: Side = "second", every: int = 1
    ) -> None:
        super().__init__()
        self._slots = list(slots)
        self.seed, self.protected, self.every = seed, protected, every
        self._importance: dict[Any, FloatArray] = {}

    @property
    def sources(self) -> list[Row]:
        """The rows whose words need importance, each source once."""
        needed = {
            slot.row["source_id"]: slot.row
            for slot in self._slots
            if any(augmenter.needs_importance for augmenter in slot.augmenters)
        }
        return list(needed.values())

    @property
    def max_pieces(self) -> int:
        """Versions of a text at most that importance is measured with."""
        asked = [
            getattr(augmenter, "max_pieces", 0)
            for slot in self._slots
            for augmenter in slot.augmenters
        ]
        return max(asked, default=0)

    @property
    def next_id(self) -> int:
        """A number above all ids of the rows."""
        return next_id([slot.row for slot in self._slots])

    def set_importance(self, importance: Mapping[Any, FloatArray]) -> None:
        """Set the importance of the words of sources, by `source_id`.

        Before it is set, all words of a text count alike.
        """
        self._importance = dict(importance)

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, index: int) -> Row:
        slot = self._slots[index]
        if not slot.augmenters:
            return dict(slot.row)
        source = slot.row["source_id"]
        text = split_pair(whole_text(slot.row), self.protected)[0]
        which = 0
        if len(slot.augmenters) > 1:
            rng = keyed_rng(self.seed, "augmenter", self.epoch, source, slot.copy)
            which = int(rng.integers(len(slot.augmenters)))
        augmenter = slot.augmenters[which]
        if isinstance(augmenter, NoisyEmbeddings):
            rng = keyed_rng(self.seed, "embedding-noise", self.epoch, source, slot.copy)
            return {**slot.row, **augmenter.marks(rng)}
        importance = self._importance.get(source)
        rewritten = augment(
            augmenter,
            text,
            seed=self.seed,
            example=source,
            epoch=self.epoch,
            copy=slot.copy,
            importance=np.zeros(len(text.split())) if importance is None else importance,
        )
        return with_open_text(slot.row, rewritten, self.protected)


class AugmentedRows(DrawnRows):
    """Training rows, each followed by rewritten copies of it.

    Copies keep all entries of their source, such as label and domain, and its `source_id`; they
    have an `example_id` of their own and `augmented=True`. Rows that are copies themselves are kept
    and not copied again.

    Args:
        rows: The rows; see `Row`.
        settings: How many copies, and how they are rewritten.
        seed: Seed of the randomness.
        protected: Which text of a pair is never rewritten.

    Raises:
        DataError: If rows lack an entry, or ids are no whole numbers or not unique.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        settings: Copies,
        *,
        seed: int = 0,
        protected: Side = "second",
    ) -> None:
        known = checked_rows(rows)
        slots, step = [], next_id(known)
        for row in known:
            slots.append(Slot(row))
            if row["augmented"]:
                continue
            for copy in range(1, settings.copies + 1):
                new = {**row, "augmented": True, "example_id": row["example_id"] + copy * step}
                slots.append(Slot(new, settings.augmenters, copy))
        super().__init__(slots, seed=seed, protected=protected, every=settings.every)


class EnvironmentRows(DrawnRows):
    """Training rows whose domain is a perturbation, alone or with the domain of the row.

    Rewritten rows are rows of their domain like others: they are not marked as augmented, and take
    part in its statistics. They keep the `source_id` of their source.

    Args:
        rows: The rows; see `Row`.
        settings: The perturbations, and who goes where.
        seed: Seed of the randomness.
        protected: Which text of a pair is never rewritten.

    Raises:
        DataError: If rows lack an entry, such as the domain that is crossed with, or ids are no
            whole numbers or not unique.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        settings: Environments,
        *,
        seed: int = 0,
        protected: Side = "second",
    ) -> None:
        known = checked_rows(rows)
        names, step = list(settings.perturbations), next_id(known)
        # A multiple of the number of rows for each name, dealt out at random, makes equal domains.
        dealt = keyed_rng(seed, "environments").permutation(len(known)) % len(names)
        slots = []
        for position, row in enumerate(known):
            for k, name in enumerate(names):
                if settings.assign == "one" and k != dealt[position]:
                    continue
                new = {
                    **row,
                    "domain": _domain(row, name, settings.mode),
                    "example_id": row["example_id"] + k * step,
                }
                augmenter = settings.perturbations[name]
                slots.append(Slot(new, () if augmenter is None else (augmenter,), name))
        super().__init__(slots, seed=seed, protected=protected, every=settings.every)


def _domain(row: Row, name: str, mode: str) -> str:
    if mode == "replace":
        return name
    if row.get("domain") is None:
        raise DataError(
            f"row {row['example_id']} has no domain to cross with; give one, or use mode='replace'"
        )
    return f"{row['domain']}/{name}"
