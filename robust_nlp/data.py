"""Splits of a data set: read, checked, and known by the hash of their content."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from robust_nlp.errors import DataError, did_you_mean
from robust_nlp.recipe import DataRecipe

Text = str | tuple[str, str]
Columns = dict[str, list[Any]]

#: Data that come with the package, by the path that a recipe writes.
EMBEDDED = {"embedded:reviews": "reviews.jsonl"}

#: Endings of the files that can be read; each but parquet may be followed by ".gz".
FORMATS = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split of a data set, ready for use.

    Attributes:
        name: Name of the split, such as "test".
        texts: One text a row, or pairs of texts.
        labels: One class index a row; `None` for data without labels.
        label_names: Names of the classes by index; `None` for data without labels where nobody
            named the classes.
        content_hash: Hash of all texts and labels, in order.
        description: Where the rows come from, in words.
    """

    name: str
    texts: list[Text]
    labels: list[int] | None
    label_names: list[str] | None
    content_hash: str
    description: str

    def __len__(self) -> int:
        return len(self.texts)


def load_split(data: DataRecipe, split: str, *, label_names: Sequence[str] | None = None) -> Split:
    """Read one split, check every row, and turn labels into class indices.

    Labels may be whole numbers (also written as text or as `1.0`), which are class indices from
    0, or names of classes. Relative paths start at the working directory.

    Args:
        data: What to read.
        split: Name of the split.
        label_names: The classes by index, as the classifier knows them; `None` takes the names
            that the data use (in the order of the data set's own class list, else sorted).

    Raises:
        DataError: If a file, split, column or value is missing or cannot be used.
    """
    description, columns, class_list = _read(data, split)
    where = f"split {split!r} of {description}"
    texts = _texts(columns, data, where)
    if not texts:
        raise DataError(f"{where} has no rows")
    names = None if label_names is None else list(label_names)
    labels = None
    if data.label is not None:
        column = _check_labels_present(columns[data.label], data.label, where)
        labels, names = _labels(column, class_list, names, f"column {data.label!r} of {where}")
    return Split(
        name=split,
        texts=texts,
        labels=labels,
        label_names=names,
        content_hash=_content_hash(texts, labels),
        description=description,
    )


def _read(data: DataRecipe, split: str) -> tuple[str, Columns, list[str] | None]:
    """Return where the rows come from, the columns in use, and the data set's class list."""
    if (data.path is None) == (data.files is None):
        raise DataError(
            "data needs either `path` (a Hub data set or embedded data) or `files` (split name "
            f"to local file); got path={data.path!r} and files={data.files!r}"
        )
    if data.files is not None:
        path = Path(data.files[_known_split(split, data.files, "data.files")])
        return str(path), _take(_read_file(path), data, str(path)), None
    assert data.path is not None
    if data.path.startswith("embedded:"):
        return data.path, _take(_read_embedded(data.path, split), data, data.path), None
    return _read_hub(data, data.path, split)


def _read_hub(data: DataRecipe, path: str, split: str) -> tuple[str, Columns, list[str] | None]:
    import datasets

    try:
        splits = datasets.load_dataset(path, data.config, revision=data.revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"cannot load the data set {path!r} (config={data.config!r}, "
            f"revision={data.revision!r}): {error} For local files, use `data.files`."
        ) from error
    dataset = splits[_known_split(split, splits, path)]
    available = list(dataset.column_names)
    columns = {name: list(dataset[name]) for name in _wanted(data, available, path)}
    feature = None if data.label is None else dataset.features[data.label]
    class_list = list(feature.names) if isinstance(feature, datasets.ClassLabel) else None
    revision = f" at {data.revision}" if data.revision else ""
    config = f"/{data.config}" if data.config else ""
    return f"{path}{config}{revision}", columns, class_list


def _read_embedded(path: str, split: str) -> Columns:
    if path not in EMBEDDED:
        raise DataError(
            f"there are no embedded data {path!r}; available: {', '.join(EMBEDDED)}."
            f"{did_you_mean(path, EMBEDDED)}"
        )
    resource = resources.files("robust_nlp") / "resources" / EMBEDDED[path]
    columns = _json_lines(resource.read_text(encoding="utf-8"), path)
    splits = columns["split"]
    _known_split(split, set(splits), path)
    rows = [row for row, name in enumerate(splits) if name == split]
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def _read_file(path: Path) -> Columns:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in FORMATS or path.name.endswith(".parquet.gz"):
        raise DataError(
            f"{path}: expected a file that ends in {', '.join(FORMATS)}, or one of the text "
            "formats followed by .gz"
        )
    if not path.is_file():
        raise DataError(f"there is no file {path} (looked from {Path.cwd()})")
    import pyarrow
    from pyarrow import csv, parquet

    try:
        if suffix == ".parquet":
            return dict(parquet.read_table(path).to_pydict())
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        text = raw.decode("utf-8-sig")
        if suffix != ".csv":
            return _json_lines(text, str(path))
        header = csv.open_csv(pyarrow.BufferReader(raw)).schema.names
        table = csv.read_csv(
            pyarrow.BufferReader(raw),
            read_options=csv.ReadOptions(block_size=len(raw) + 1),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types={name: pyarrow.string() for name in header}
            ),
        )
        return dict(table.to_pydict())
    except (OSError, EOFError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise DataError(f"cannot read {path} as {suffix[1:]}: {error}") from error


def _json_lines(text: str, where: str) -> Columns:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"line {number} of {where} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(
                f"line {number} of {where}: expected one JSON object a line, such as "
                f'{{"text": "…", "label": 0}}; got a {type(row).__name__}'
            )
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _known_split(split: str, available: Any, where: str) -> str:
    names = sorted(str(name) for name in available)
    if split not in names:
        raise DataError(
            f"{where} has no split {split!r}; available: {', '.join(names) or 'none'}."
            f"{did_you_mean(split, names)}"
        )
    return split


def _wanted(data: DataRecipe, available: Sequence[str], where: str) -> list[str]:
    wanted = [name for name in (data.text, data.pair, data.label) if name is not None]
    for name in wanted:
        if name not in available:
            hint = " For data without labels, write `label: null`." if name == data.label else ""
            raise DataError(
                f"{where} has no column {name!r}; available: {', '.join(available) or 'none'}."
                f"{did_you_mean(name, available)}{hint}"
            )
    return wanted


def _take(columns: Columns, data: DataRecipe, where: str) -> Columns:
    return {name: columns[name] for name in _wanted(data, list(columns), where)}


def _texts(columns: Columns, data: DataRecipe, where: str) -> list[Text]:
    first = _check_texts(columns[data.text], data.text, where)
    if data.pair is None:
        return list(first)
    return list(zip(first, _check_texts(columns[data.pair], data.pair, where), strict=True))


def _check_texts(values: list[Any], column: str, where: str) -> list[str]:
    for row, value in enumerate(values):
        if not isinstance(value, str):
            what = "nothing" if value is None else f"{value!r} ({type(value).__name__})"
            raise DataError(f"row {row} of column {column!r} of {where}: expected text; got {what}")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise DataError(
                f"row {row} of column {column!r} of {where} holds half a surrogate pair, which is "
                "no character: repair the file's encoding"
            )
    return values


def _check_labels_present(values: list[Any], column: str, where: str) -> list[Any]:
    for row, value in enumerate(values):
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            raise DataError(
                f"row {row} of column {column!r} of {where} has no label. Remove the row, or "
                "write `label: null` to use the data without labels."
            )
    return values


def _labels(
    values: list[Any], class_list: list[str] | None, names: list[str] | None, where: str
) -> tuple[list[int], list[str]]:
    """Turn labels into class indices, and return them with the names of the classes."""
    numbers = [_whole_number(value) for value in values]
    if class_list is not None and names is not None and set(class_list) == set(names):
        # Same classes, perhaps in another order: what counts is the name.
        values = [class_list[n] if n in range(len(class_list)) else n for n in values]
        numbers = [None if isinstance(value, str) else value for value in values]
    by_name = _index_by_name(values, names)
    if names is None and class_list is not None:
        names = class_list
    elif names is None and None not in numbers:
        names = _numbered_classes([n for n in numbers if n is not None], where)
    elif names is None:
        names = sorted({str(value) for value in values})
        by_name = [names.index(str(value)) for value in values]
    labels = []
    for row, (value, index, number) in enumerate(zip(values, by_name, numbers, strict=True)):
        label = number if index is None else index
        if label is None:
            raise DataError(
                f"row {row} of {where}: {value!r} is neither a class index nor one of the classes "
                f"{', '.join(names)}.{did_you_mean(str(value), names)}"
            )
        if not 0 <= label < len(names):
            hidden = " (-1 often stands for a hidden label)" if label == -1 else ""
            raise DataError(
                f"row {row} of {where}: expected a class index in 0..{len(names) - 1}; "
                f"got {value!r}{hidden}"
            )
        labels.append(label)
    return labels, names


def _whole_number(value: Any) -> int | None:
    """Read 1, 1.0, True, "1" and "1.0" as whole numbers; anything else is `None`."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None


def _index_by_name(values: list[Any], names: list[str] | None) -> list[int | None]:
    index = {name: number for number, name in enumerate(names or ())}
    return [index.get(value) if isinstance(value, str) else None for value in values]


def _numbered_classes(numbers: list[int], where: str) -> list[str]:
    """Name classes 0, 1, … by their numbers; there may be no gaps."""
    present = sorted(set(numbers))
    if present != list(range(len(present))):
        shown = ", ".join(str(number) for number in present[:10])
        raise DataError(
            f"{where} has the class indices {shown}{', …' if len(present) > 10 else ''}; expected "
            f"0..{len(present) - 1} without gaps"
        )
    return [str(number) for number in present]


def _content_hash(texts: list[Text], labels: list[int] | None) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for row, text in enumerate(texts):
        label = None if labels is None else labels[row]
        digest.update(json.dumps([text, label]).encode() + b"\n")
    return digest.hexdigest()
