"""The summary of a comparison: which method is best at what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from robust_nlp.compare.facts import certified_at, hardly_reads, main_threats, score_of
from robust_nlp.compare.tables import measured_methods, milliseconds, perturbation_name
from robust_nlp.reporting.words import agree, count, percent

Facts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Highlight:
    """The best methods by one number.

    Attributes:
        value: The number, as a text.
        what: What it is.
        methods: The methods that have it, more than one on a tie.
    """

    value: str
    what: str
    methods: list[str]

    @property
    def sentence(self) -> str:
        """Say who is best."""
        names = " and ".join(filter(None, [", ".join(self.methods[:-1]), self.methods[-1]]))
        return f"{self.what}: {names} ({self.value})."


def highlights(facts: Facts) -> list[Highlight]:
    """Return the best methods by accuracy, deletion, certificates, attacks and time.

    Methods that hardly read a text are left out.
    """
    methods = [method for method in measured_methods(facts) if not hardly_reads(method)]
    found = [_best(methods, "best clean accuracy", lambda m: m["clean_accuracy"]["value"])]
    for name in facts["perturbations"]:
        found.append(
            _best(
                methods,
                f"best mean accuracy under {perturbation_name(name)}",
                lambda m, name=name: (score_of(m, name) or {}).get("area", {}).get("value"),  # type: ignore[misc]
            )
        )
    radius = facts["lengths"]["radius"]
    for threat in main_threats(facts["methods"]):
        found.append(
            _best(
                methods,
                f"most certified at {count(radius, 'edit')} ({threat})",
                lambda m, threat=threat: (
                    certified_at(m["certified"][threat], radius)  # type: ignore[misc]
                    if threat in (m["certified"] or {})
                    else None
                ),
            )
        )
    found.append(
        _best(
            methods,
            "best accuracy under the worst attack",
            lambda m: m["attacks"]["worst_case"]["value"] if m["attacks"] else None,
        )
    )
    found.append(
        _best(
            methods,
            "quickest answer",
            lambda m: -m["cost"]["answer"]["seconds"] if m["cost"]["answer"] else None,
            lambda value: f"{milliseconds(-value)} ms",
        )
    )
    return [highlight for highlight in found if highlight is not None]


def closing(facts: Facts) -> str:
    """Say how sure the summary is."""
    texts = facts["texts"]
    smallest = min(texts.values(), default=0)
    return (
        f"From {count(smallest, 'text')} {agree(len(texts), '', 'or more ')}per number: brackets "
        "in the tables are 95 % intervals over texts like these, and methods that differ by less "
        "may not differ at all."
    ).replace("  ", " ")


def _best(
    methods: Iterable[Facts],
    what: str,
    value_of: Callable[[Facts], float | None],
    said: Callable[[float], str] = percent,
) -> Highlight | None:
    values = {m["method"]: value for m in methods if (value := value_of(m)) is not None}
    if len(values) < 2:
        return None
    most = max(values.values())
    names = [name for name, value in values.items() if value == most]
    return Highlight(value=said(most), what=what, methods=names)
