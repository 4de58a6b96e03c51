"""Domains in data sets and batches: their names, their indices, and a column past any collator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from robust_nlp.augmentation.embedding import NOISE_SEED, NOISE_SIGMA
from robust_nlp.errors import DataError
from robust_nlp.fishr.batch import UNKNOWN

#: Column that marks augmented copies: they count in the loss and in no statistic.
AUGMENTED = "augmented"


class DomainNames:
    """The names of domains, and their indices in batches.

    A name keeps its index when further ones are learned. Names that are learned together are put
    in order, numbers by size, so that all processes agree.
    """

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """The names, by index."""
        return list(self._index)

    def learn(self, values: Iterable[Any]) -> None:
        """Take up the domains of a data set.

        Raises:
            DataError: If a value is no domain; see `domain_name`.
        """
        new = {domain_name(value) for value in values} - self._index.keys() - {None}
        for name in sorted(filter(None, new), key=_natural):
            self._index[name] = len(self._index)

    def index(self, value: Any) -> int:
        """Return the index of a domain, and `UNKNOWN` for one that was not learned."""
        name = domain_name(value)
        return UNKNOWN if name is None else self._index.get(name, UNKNOWN)


def domain_name(value: Any) -> str | None:
    """Return the name of a domain as a data set has it, and `None` for an unknown one.

    Args:
        value: A text or a whole number. `None`, NaN, the empty text and numbers below 0 are
            unknown domains.

    Raises:
        DataError: If it is anything else.
    """
    if hasattr(value, "item"):  # scalars of torch and NumPy
        value = value.item()
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value) if value >= 0 else None
    raise DataError(f"a domain is a text or a whole number; got {value!r}")


def _natural(name: str) -> tuple[bool, int, str]:
    number = name.isdecimal()
    return not number, int(name) if number else 0, name


def columns(dataset: Any, *names: str) -> dict[str, list[Any]]:
    """Read columns of a data set with a length; those that it lacks are left out.

    Args:
        dataset: A `datasets.Dataset`, or anything with a length and rows that are mappings.
        names: Names of columns.
    """
    there = getattr(dataset, "column_names", None)
    if there is not None:
        plain = dataset.with_format(None)
        return {name: plain.select_columns([name])[:][name] for name in names if name in there}
    if not len(dataset):
        return {}
    read: dict[str, list[Any]] = {name: [] for name in names if name in dataset[0]}
    for i in range(len(dataset)):
        row = dataset[i]
        for name, values in read.items():
            values.append(row.get(name))
    return read


class DomainCollator:
    """Any data collator, with domain indices in its batches.

    The columns of domains, and of marks for augmented copies and for noise on embeddings, are taken
    out of the rows, which the collator would not know how to pad, and put into its batch, shape
    `(rows,)`. A row without a domain is of an unknown one. Where the collator makes several
    versions of each example, all first ones before all second ones, those after the first are
    marked as augmented. Batches without labels are left as they are: nothing is measured on them.

    Args:
        collator: The data collator; it must make one row of each example, in order, or as many of
            each, in blocks.
        domains: The names of the domains.
        column: Column of the domains, in examples and in batches.

    Raises:
        DataError: If the collator makes more rows of some examples than of others.
    """

    def __init__(
        self, collator: Callable[[list[Any]], Any], domains: DomainNames, *, column: str
    ) -> None:
        self.collator = collator
        self._domains, self._column = domains, column

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Any:
        rows = [dict(example) for example in examples]
        domains = [self._domains.index(row.pop(self._column, None)) for row in rows]
        augmented = [bool(row.pop(AUGMENTED, False)) for row in rows]
        sigmas = [float(row.pop(NOISE_SIGMA, None) or 0.0) for row in rows]
        seeds = [int(row.pop(NOISE_SEED, None) or 0) for row in rows]
        batch = self.collator(rows)
        if batch.get("labels") is None:
            return batch
        copies, rest = divmod(len(batch["labels"]), max(len(rows), 1))
        if rest or not copies:
            raise DataError(
                f"the data collator made {len(batch['labels'])} rows of {len(rows)} examples; "
                "domains need one row of each example, in order, or as many of each, in blocks"
            )
        batch[self._column] = torch.tensor(domains * copies)
        augmented += [True] * (len(rows) * (copies - 1))
        if any(augmented):
            batch[AUGMENTED] = torch.tensor(augmented)
        if any(sigmas):
            batch[NOISE_SIGMA] = torch.tensor(sigmas * copies)
            batch[NOISE_SEED] = torch.tensor(seeds * copies)
        return batch
