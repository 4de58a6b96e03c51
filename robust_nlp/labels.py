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

    A label is the name of a class, or a class index from 0 (also written as text or as `1.0`).

    Args:
        values: One label a row.
        where: The column in words, for messages.
        names: The classes by index, as the classifier knows them; `None` takes those of the data.
        data_names: The classes by index, as the data set lists them. If the classifier has the
            same names in another order, labels follow the names.

    Returns:
        The class index of each row, and the names of the classes.

    Raises:
        DataError: If a label is missing, no class, or outside the classes; or if the classifier's
            classes are unknown and the labels do not tell them.
    """
    for row, value in enumerate(values):
        _check_present(value, f"row {row} of {where}")
    if data_names is not None and names is not None and set(data_names) == set(names):
        values = [
            data_names[value] if value in range(len(data_names)) else value for value in values
        ]
    known = list(names if names is not None else data_names or _names_in(values, where))
    index = {name: i for i, name in enumerate(known)}
    labels = []
    for row, value in enumerate(values):
        label = index.get(value) if isinstance(value, str) else None
        label = _whole_number(value) if label is None else label
        if label is None:
            raise DataError(
                f"row {row} of {where}: {value!r} is neither a class index nor one of the classes "
                f"{', '.join(known)}.{did_you_mean(str(value), known)}"
            )
        if not 0 <= label < len(known):
            hidden = " (-1 often stands for a hidden label)" if label == -1 else ""
            raise DataError(
                f"row {row} of {where}: expected a class index in 0..{len(known) - 1}; "
                f"got {value!r}{hidden}"
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
    """Name the classes as the labels do: sorted names, or 0, 1, … without gaps."""
    numbers = [_whole_number(value) for value in values]
    if None in numbers:
        if not all(isinstance(value, str) for value in values):
            raise DataError(f"{where} mixes numbers and names of classes; use one of the two")
        return sorted(set(values))
    present = sorted({number for number in numbers if number is not None})
    if present != list(range(len(present))):
        shown = ", ".join(str(number) for number in present[:10])
        raise DataError(
            f"{where} has the class indices {shown}{', …' if len(present) > 10 else ''}; expected "
            f"0..{len(present) - 1} without gaps"
        )
    return [str(number) for number in present]
