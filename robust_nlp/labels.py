"""Labels of a data set as class indices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from robust_nlp.errors import DataError, did_you_mean


def class_indices(
    values: Sequence[Any],
    where: str,
    *,
    names: Sequence[str] | None = None,
    data_names: Sequence[str] | None = None,
) -> tuple[list[int], list[str]]:
    """Turn labels into class indices.

    A label is the name of a class, or, unless classes are named by numbers, a class index from 0.
    Numbers may be written as text or as `1.0`.

    Args:
        values: One label a row.
        where: The column in words, for messages.
        names: The classes by index, as the classifier knows them; `None` takes those of the data.
        data_names: The classes by index, as the data set lists them. If the classifier has the
            same names in another order, labels follow the names.

    Returns:
        The class index of each row, and the names of the classes.

    Raises:
        DataError: If a label is missing or is none of the classes.
    """
    for row, value in enumerate(values):
        _check_present(value, f"row {row} of {where}")
    if data_names is not None and names is not None and set(data_names) == set(names):
        values = [
            data_names[value] if value in range(len(data_names)) else value for value in values
        ]
    known = list(names if names is not None else data_names or _names_in(values, where))
    by_name = {name: i for i, name in enumerate(known)}
    numbers = [_whole_number(name) for name in known]
    by_number = {
        number: i for i, number in enumerate(range(len(known)) if None in numbers else numbers)
    }
    labels = []
    for row, value in enumerate(values):
        label = by_name.get(str(value), by_number.get(_whole_number(value)))
        if label is None:
            indices = f", or 0 to {len(known) - 1}" if None in numbers else ""
            hint = did_you_mean(str(value), known)
            if value == -1:
                hint = " A label of -1 often stands for a hidden one."
            elif all(name.startswith("LABEL_") for name in known):
                hint = (
                    " The classifier has no names for its classes: write numbers from 0, or put "
                    "the names into `id2label` of its config.json."
                )
            raise DataError(
                f"row {row} of {where}: expected one of the classes {', '.join(known)}{indices}; "
                f"got {value!r}.{hint}"
            )
        labels.append(label)
    return labels, known


def _check_present(value: Any, where: str) -> None:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        raise DataError(
            f"{where} has no label. Remove the row, or write `label: null` to use the data "
            "without labels."
        )
    if not isinstance(value, (str, int, float)):
        raise DataError(f"{where}: expected a class index or the name of a class; got {value!r}")


def _whole_number(value: str | float) -> int | None:
    """Read 1, 1.0, True, "1" and "1.0" as whole numbers; anything else is `None`."""
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _names_in(values: Sequence[Any], where: str) -> list[str]:
    """Name the classes as the labels do, in the order of the numbers or the alphabet."""
    numbers = [_whole_number(value) for value in values]
    if None not in numbers:
        return [str(number) for number in sorted({n for n in numbers if n is not None})]
    if not all(isinstance(value, str) for value in values):
        raise DataError(f"{where} mixes names of classes with numbers, or has fractions")
    return sorted(set(values))
