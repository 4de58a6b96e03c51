"""Rewritten copies of training rows that are made once, before training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from robust_nlp.augmentation.base import Augmenter, augment
from robust_nlp.augmentation.ledger import Result, work_through
from robust_nlp.augmentation.rows import Row, checked_rows, next_id, whole_text, with_open_text
from robust_nlp.augmentation.settings import fingerprint
from robust_nlp.base_classifier import Side, split_pair
from robust_nlp.units import text_key


def augment_rows(
    rows: Iterable[Mapping[str, Any]],
    augmenter: Augmenter,
    *,
    copies: int = 1,
    seed: int = 0,
    protected: Side = "second",
    folder: str | Path | None = None,
    processes: Any = None,
) -> list[Row]:
    """Return rewritten copies of training rows, the same for all epochs.

    This is for augmenters that are too slow to draw anew in each epoch. Copies keep all entries of
    their source, such as label and domain, and its `source_id`; they have an `example_id` of their
    own and `augmented=True`. Rows that are copies themselves are not copied again. Train on
    `rows + augment_rows(rows, ...)`.

    Args:
        rows: The rows; see `robust_nlp.augmentation.rows.Row`.
        augmenter: How they are rewritten.
        copies: Copies of each row, at least 1.
        seed: Seed of the randomness.
        protected: Which text of a pair is never rewritten.
        folder: Where copies are kept, so that a second call, or one after an interruption, makes
            only what is missing; also what processes share the work through.
        processes: See `robust_nlp.augmentation.ledger.work_through`.

    Raises:
        ValueError: If the augmenter needs importance, or `copies` is below 1.
        DataError: If rows lack an entry, or ids are no whole numbers or not unique.
    """
    if augmenter.needs_importance:
        raise ValueError(
            f"{type(augmenter).__name__} depends on the current classifier: use it in "
            "AugmentedRows, while training"
        )
    if copies < 1:
        raise ValueError(f"copies must be at least 1; got {copies!r}")
    known = checked_rows(rows)
    step = next_id(known)
    planned = [
        (row, copy) for row in known if not row["augmented"] for copy in range(1, copies + 1)
    ]
    settings = fingerprint(augmenter)
    open_texts = [split_pair(whole_text(row), protected)[0] for row, _ in planned]

    def rewritten(positions: list[int]) -> list[Result]:
        return [
            {
                "text": augment(
                    augmenter,
                    open_texts[i],
                    seed=seed,
                    example=planned[i][0]["source_id"],
                    copy=planned[i][1],
                )
            }
            for i in positions
        ]

    keys = [
        text_key("copy", settings, str(seed), str(row["source_id"]), str(copy), text)
        for (row, copy), text in zip(planned, open_texts, strict=True)
    ]
    results = work_through(keys, rewritten, folder=folder, name="augment", processes=processes)
    return [
        {
            **with_open_text(row, result["text"], protected),
            "augmented": True,
            "example_id": row["example_id"] + copy * step,
        }
        for (row, copy), result in zip(planned, results, strict=True)
    ]
