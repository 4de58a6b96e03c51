"""The examples of an attack, from any data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from robust_nlp.attacks.search import Example
from robust_nlp.base_classifier import checked_texts
from robust_nlp.data import Split
from robust_nlp.errors import DataError


def read_examples(dataset: Split | Iterable[Any], limit: int | None) -> list[Example]:
    """Return the examples of a data set, numbered from 0 unless rows have an `example_id`.

    Raises:
        DataError: If there are none, or one has no text or no class index.
    """
    if isinstance(dataset, Split):
        if dataset.labels is None:
            raise DataError(f"{dataset.description} has no labels, which attacks need")
        rows: Iterable[Any] = zip(dataset.texts, dataset.labels, strict=True)
    else:
        rows = dataset
    examples: list[Example] = []
    for position, row in enumerate(rows):
        if limit is not None and position >= limit:
            break
        examples.append(_example(position, row))
    if not examples:
        raise DataError("there is nothing to attack: the data set is empty")
    if len({example.id for example in examples}) < len(examples):
        raise DataError("each example needs an example_id of its own; some are equal")
    if len({type(example.text) for example in examples}) > 1:
        raise DataError("expected texts alone or pairs alone; got both")
    return examples


def _example(position: int, row: Any) -> Example:
    number = position
    if isinstance(row, Mapping):
        number = row.get("example_id", position)
        text, label = row.get("text"), row.get("label")
        if row.get("pair") is not None:
            text = (text, row["pair"])
    else:
        try:
            text, label = row
        except (TypeError, ValueError) as error:
            raise DataError(
                f"expected (text, label), or a mapping with `text` and `label`, at position "
                f"{position}; got {row!r:.80}"
            ) from error
    whole = np.asarray(label)
    if label is None or whole.ndim > 0 or whole.dtype.kind not in "iub" or int(whole) < 0:
        raise DataError(
            f"expected a class index of at least 0 as the label at position {position}; got "
            f"{label!r}"
        )
    return Example(int(number), checked_texts([text])[0], int(whole))
