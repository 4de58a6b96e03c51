"""Which examples of a data set make a batch, and what is wrong with them."""

from __future__ import annotations

import warnings
from collections import defaultdict
from typing import Any

from robust_nlp.errors import DataError, RobustNLPWarning
from robust_nlp.fishr.batch import UNKNOWN
from robust_nlp.fishr.config import FishrConfig
from robust_nlp.fishr.domains import AUGMENTED, DomainNames, columns
from robust_nlp.fishr.residuals import IGNORED
from robust_nlp.fishr.sampler import DomainBalancedSampler

#: Names of the column of labels that data collators know.
LABELS = ("labels", "label", "label_ids")


def balanced_sampler(
    dataset: Any, domains: DomainNames, args: FishrConfig, *, batch_size: int
) -> DomainBalancedSampler:
    """Make the order of examples that the settings ask for.

    Args:
        dataset: The training data.
        domains: The names of the domains, which know those of the data.
        args: The settings.
        batch_size: Rows that a statistic is of, over all processes.

    Raises:
        DataError: If the data have no domains, or no labels.
        RecipeError: If a batch cannot have so many domains.

    Warns:
        RobustNLPWarning: If data and batches are not fit for statistics of domains.
    """
    by_length = getattr(args, "group_by_length", False) or (  # transformers 4; 5
        getattr(args, "train_sampling_strategy", None) == "group_by_length"
    )
    sizes = ("input_ids", args.length_column_name) if by_length else ()
    read = columns(dataset, args.domain_column, AUGMENTED, *LABELS, *sizes)
    if args.domain_column not in read:
        raise DataError(
            f"the training data have no column {args.domain_column!r} with the domain of each row; "
            "name it with domain_column"
        )
    labels = next((read[name] for name in LABELS if name in read), None)
    if labels is None:
        raise DataError(f"the training data have no labels: none of {', '.join(LABELS)}")
    labels = [label.item() if hasattr(label, "item") else label for label in labels]
    index = [domains.index(value) for value in read[args.domain_column]]
    marks = read.get(AUGMENTED, [False] * len(index))
    index = [UNKNOWN if label == IGNORED else i for i, label in zip(index, labels, strict=True)]
    copies = [bool(mark) for mark in marks]
    lengths = None
    if by_length:
        ids = read.get("input_ids", ())
        lengths = read.get(args.length_column_name) or [len(row) for row in ids] or None
    names, by_domain = domains.names, defaultdict(list)
    for i, label, copy in zip(index, labels, copies, strict=True):
        if i != UNKNOWN and not copy:
            by_domain[names[i]].append(label)
    known = sum(map(len, by_domain.values()))
    counted = batch_size * known // max(len(index), 1)
    room = max(counted // args.rows_per_domain, 2)
    number = args.domains_per_batch
    if number is None:
        number = max(min(room, len(by_domain)), 1)
    probabilities = args.domain_probabilities
    sampler = DomainBalancedSampler(
        index,
        batch_size=batch_size,
        domains_per_batch=number,
        seed=args.seed if args.data_seed is None else args.data_seed,
        probabilities="uniform" if probabilities is None else probabilities,
        labels=labels if args.stratify_labels else None,
        lengths=lengths,
        copies=copies if any(copies) else None,
    )
    if args.build_objective().kind not in ("erm", "reweighted_erm"):
        _warn(
            by_domain, args.rows_per_domain, batch_size=batch_size, rows=counted // max(number, 1)
        )
    return sampler


def _warn(labels: dict[str, list[Any]], wanted: int, *, batch_size: int, rows: int) -> None:
    """Warn of data on which statistics of domains say little.

    Args:
        labels: Labels of the rows of each domain.
        wanted: Rows of a domain that a batch should have.
        batch_size: Rows of a batch.
        rows: Rows of a domain that it has.
    """
    found = []
    if len(labels) < 2:
        found.append(
            f"the training data have one domain, {_listed(labels)}: objectives that compare "
            "domains need two or more"
        )
    if rows < wanted:
        found.append(
            f"batches of {batch_size} rows have {rows} of each domain; below {wanted}, statistics "
            "of a domain are mostly noise. Raise per_device_train_batch_size (or, with "
            'accumulation="exact", gradient_accumulation_steps), or lower domains_per_batch'
        )
    few = [name for name, of_domain in labels.items() if len(of_domain) < rows]
    if few:
        found.append(f"domains with fewer than {rows} rows repeat rows in a batch: {_listed(few)}")
    single = [name for name, of_domain in labels.items() if len(set(of_domain)) == 1]
    if single:
        found.append(
            f"all rows of a domain have the same label, which its statistics then show: "
            f"{_listed(single)}"
        )
    for message in found:
        warnings.warn(message, RobustNLPWarning, stacklevel=2)


def _listed(names: Any, most: int = 5) -> str:
    quoted = [repr(name) for name in names]
    more = f" and {len(quoted) - most} more" if len(quoted) > most else ""
    return ", ".join(quoted[:most]) + more
