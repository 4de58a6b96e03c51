"""Splits of a data set: read, checked, and known by the hash of their content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from robust_nlp.base_classifier import Text
from robust_nlp.errors import DataError, did_you_mean
from robust_nlp.labels import class_indices
from robust_nlp.recipe import DataRecipe
from robust_nlp.tables import Columns, json_lines, read_columns

#: Data that come with the package, by the path that a recipe writes.
EMBEDDED = {"embedded:reviews": "reviews.jsonl"}


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split of a data set, ready for use.

    Attributes:
        name: Name of the split, such as "test".
        texts: One text a row, or pairs of texts.
        labels: One class index a row; `None` for data without labels.
        label_names: Names of the classes by index; `None` for data without labels where nobody
            named the classes.
        content_hash: Hash of all texts, labels and domains, in order.
        description: Where the rows come from, in words.
        domains: One name of a domain a row, `None` where it is unknown; `None` for data without.
    """

    name: str
    texts: list[Text]
    labels: list[int] | None
    label_names: list[str] | None
    content_hash: str
    description: str
    domains: list[str | None] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, keep: Sequence[int], what: str) -> Split:
        """Return a split of some of the rows.

        Args:
            keep: Row numbers, from 0.
            what: Which rows they are, in words, for the description and for errors.

        Raises:
            DataError: If there are none.
        """
        where = f"{self.description}, {what}"
        if not keep:
            raise DataError(f"{where} (split {self.name!r}) has no rows")
        texts = [self.texts[i] for i in keep]
        labels = None if self.labels is None else [self.labels[i] for i in keep]
        domains = None if self.domains is None else [self.domains[i] for i in keep]
        return dataclasses.replace(
            self,
            texts=texts,
            labels=labels,
            domains=domains,
            content_hash=_content_hash(texts, labels, domains),
            description=where,
        )

    def only(self, domains: Sequence[str]) -> Split:
        """Return the rows of some domains.

        Raises:
            DataError: If the data have no domains, or not one of these.
        """
        return self._of_domains(domains, True, f"domains {', '.join(domains)} only")

    def without(self, domains: Sequence[str]) -> Split:
        """Return the rows of all other domains, and those of none.

        Raises:
            DataError: If the data have no domains, or not one of these, or nothing is left.
        """
        return self._of_domains(domains, False, f"without the domains {', '.join(domains)}")

    def _of_domains(self, names: Sequence[str], inside: bool, what: str) -> Split:
        if self.domains is None:
            raise DataError(
                f"{self.description} (split {self.name!r}) has no domains; name their column with "
                "`data.domain`"
            )
        known = {name for name in self.domains if name is not None}
        for name in names:
            if name not in known:
                raise DataError(
                    f"{self.description} (split {self.name!r}) has no domain {name!r}; available: "
                    f"{', '.join(sorted(known))}.{did_you_mean(name, known)}"
                )
        chosen = set(names)
        keep = [i for i, name in enumerate(self.domains) if (name in chosen) is inside]
        return self.rows(keep, what)


def load_split(data: DataRecipe, split: str, *, label_names: Sequence[str] | None = None) -> Split:
    """Read one split, check every row, and turn labels into class indices.

    Args:
        data: What to read.
        split: Name of the split; also some of its rows as `datasets` writes them, such as
            "train[:8000]", "train[8000:8500]" or "train[-10%:]".
        label_names: The classes by index, as the classifier knows them; `None` takes the names
            that the data use (in the order of the data set's own list of classes, else sorted).

    Raises:
        DataError: If a file, split, column or value is missing or cannot be used. Rows are
            counted from 0.
    """
    whole = split.partition("[")[0]
    if data.files is not None:
        path = data.files[_check_split(whole, data.files, "data.files")]
        description, columns, classes = path, read_columns(path), None
    elif data.path is not None and data.path.startswith("embedded:"):
        description, columns, classes = data.path, _embedded_columns(data.path, whole), None
    else:
        description, columns, classes = _hub_columns(data, whole)
    where = f"{description} (split {split!r})"
    _check_columns(data, columns, where)
    texts = _texts(columns, data, where)
    if not texts:
        raise DataError(f"{where} has no rows")
    labels, names = None, None if label_names is None else list(label_names)
    if data.label is not None:
        labels, names = class_indices(
            columns[data.label],
            f"column {data.label!r} of {where}",
            names=names,
            data_names=classes,
        )
    domains = None
    if data.domain is not None:
        domains = [_domain(value) for value in columns[data.domain]]
    found = Split(
        name=split,
        texts=texts,
        labels=labels,
        label_names=names,
        content_hash=_content_hash(texts, labels, domains),
        description=description,
        domains=domains,
    )
    if split == whole:
        return found
    return found.rows(_slice(split, len(texts)), f"rows {split.removeprefix(whole)}")


def _slice(split: str, size: int) -> range:
    """Return the rows that a split such as "train[10%:]" means."""
    import datasets

    # In place of a name that `datasets` may not read, such as one with a hyphen.
    rows = "rows" + split[split.index("[") :]
    try:
        (part,) = datasets.ReadInstruction.from_spec(rows).to_absolute({"rows": size})
    except (AssertionError, ValueError) as error:
        raise DataError(
            f"rows of a split are written like train[:8000], train[8000:8500] or train[-10%:]; got "
            f"{split!r} of {size} rows ({error})"
        ) from error
    return range(part.from_, part.to)


def _hub_columns(data: DataRecipe, split: str) -> tuple[str, Columns, list[str] | None]:
    import datasets

    name = " ".join(part for part in (data.path, data.config, data.revision) if part)
    try:
        splits = datasets.load_dataset(data.path, data.config, revision=data.revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"cannot load the data set {name!r}: {error}. For local files, use `data.files`."
        ) from error
    rows = splits[_check_split(split, splits, name)]
    _check_columns(data, rows.column_names, name)
    wanted = [name for name in (data.text, data.pair, data.label, data.domain) if name is not None]
    columns = {column: list(rows[column]) for column in wanted}

    def names(column: str | None) -> list[str] | None:
        feature = None if column is None else rows.features[column]
        return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None

    domains = names(data.domain)
    if data.domain is not None and domains is not None:
        columns[data.domain] = [
            None if i is None or i < 0 else domains[i] for i in columns[data.domain]
        ]
    return name, columns, names(data.label)


def _embedded_columns(path: str, split: str) -> Columns:
    if path not in EMBEDDED:
        raise DataError(
            f"there are no embedded data {path!r}; available: {', '.join(EMBEDDED)}."
            f"{did_you_mean(path, EMBEDDED)}"
        )
    resource = resources.files("robust_nlp") / "resources" / EMBEDDED[path]
    columns = json_lines(resource.read_text(encoding="utf-8"), path)
    _check_split(split, columns["split"], path)
    rows = [row for row, name in enumerate(columns["split"]) if name == split]
    return {name: [values[row] for row in rows] for name, values in columns.items()}


def _check_split(split: str, available: Iterable[Any], where: str) -> str:
    names = sorted({str(name) for name in available})
    if split not in names:
        raise DataError(
            f"{where} has no split {split!r}; available: {', '.join(names)}."
            f"{did_you_mean(split, names)}"
        )
    return split


def _check_columns(data: DataRecipe, available: Iterable[str], where: str) -> None:
    names = list(available)
    for name in (data.text, data.pair, data.label, data.domain):
        if name is not None and name not in names:
            hint = " For data without labels, write `label: null`." if name == data.label else ""
            raise DataError(
                f"{where} has no column {name!r}; available: {', '.join(names) or 'none'}."
                f"{did_you_mean(name, names)}{hint}"
            )


def _texts(columns: Columns, data: DataRecipe, where: str) -> list[Text]:
    for column in (data.text, data.pair):
        for row, value in enumerate(columns[column] if column is not None else ()):
            _check_text(value, f"row {row} of column {column!r} of {where}")
    if data.pair is None:
        return list(columns[data.text])
    return list(zip(columns[data.text], columns[data.pair], strict=True))


def _check_text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        what = "nothing" if value is None else f"{value!r} ({type(value).__name__})"
        raise DataError(f"{where}: expected text; got {what}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where} holds half of a surrogate pair, which is no character: repair its encoding"
        ) from error


def _domain(value: Any) -> str | None:
    """Name a domain; nothing, an empty text and a number that is none say no domain."""
    if value is None or value == "" or value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _content_hash(
    texts: list[Text], labels: list[int] | None, domains: list[str | None] | None
) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for row, text in enumerate(texts):
        entry: list[Any] = [text, None if labels is None else labels[row]]
        if domains is not None:
            entry.append(domains[row])
        digest.update(json.dumps(entry).encode() + b"\n")
    return digest.hexdigest()
