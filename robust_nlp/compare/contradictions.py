"""Whether anything contradicts the certificates: finds of attacks, audits, and judged texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from robust_nlp.reporting.words import agree, count

Facts = Mapping[str, Any]

LOUD = "A CERTIFICATE IS WRONG: do not trust the certified numbers of"


def contradictions(methods: Iterable[Facts], sandwiches: Facts) -> dict[str, Any]:
    """Return what was held against certificates, and whether they held.

    Args:
        methods: Facts of the methods.
        sandwiches: See `robust_nlp.compare.sandwich.sandwiches`.

    Returns:
        `held`: whether every check was passed, `None` if nothing was checked; `checks`, one a
        method and source, with the `example_id`s of the `texts` that are against it (of an audit,
        of those that it quotes); `found`: the texts inside a certified radius that have another
        answer.
    """
    checks = [check for method in methods for check in _checks(method, sandwiches)]
    return {
        "held": all(check["held"] for check in checks) if checks else None,
        "checks": [{k: v for k, v in check.items() if k != "found"} for check in checks],
        "found": [each for check in checks for each in check["found"]],
    }


def verdict(found: Facts) -> str:
    """Say in a sentence whether certificates held."""
    if found["held"] is None:
        return (
            "Nothing was held against the certificates: no attack and no audit was made of a "
            "method that has any."
        )
    wrong = [check["method"] for check in found["checks"] if not check["held"]]
    if wrong:
        return f"{LOUD} {', '.join(dict.fromkeys(wrong))}."
    tried = sum(check["compared"] for check in found["checks"])
    inside = sum(check["inside"] for check in found["checks"])
    said = f"{count(tried, 'check')} of texts against certificates: "
    if not inside:
        return f"{said}no contradiction."
    return (
        f"{said}{inside:,} {agree(inside, 'contradicts', 'contradict')} a certificate, "
        "no more than their failure probability allows."
    )


def check_sentence(check: Facts) -> str:
    """Say what one source came to."""
    by = {
        "attacks": "finds of attacks that the judge confirmed",
        "audit": "texts that the audit sought inside the radius",
        "clean": "clean texts with a right certificate, judged anew by the attacks",
    }[check["by"]]
    said = (
        f"{check['method']}: {check['compared']:,} {by}, {check['inside']:,} against certificates"
    )
    if check["inside"]:
        texts = check["texts"]
        named = f"{agree(len(texts), 'text', 'texts')} {', '.join(map(str, texts))}"
        if len(texts) < check["inside"]:
            named = f"among them {named}"
        said += f" ({check['allowed']:,} allowed; {named})"
    return f"{said}." if check["held"] else f"{said}: a certificate is wrong."


def _checks(method: Facts, sandwiches: Facts) -> Iterable[dict[str, Any]]:
    name = method["method"]
    beside = None if method["attacks"] is None else method["attacks"]["certificates"]
    if beside is not None:
        found = beside["contradictions"]
        ids = {each["example_id"] for each in found}
        base = {"method": name, "allowed": beside["allowed"]}
        yield {
            **base,
            "by": "attacks",
            "held": beside["held"],
            "compared": beside["compared"],
            "inside": len(ids),
            "texts": sorted(ids),
            "found": [{"method": name, "by": "attacks", **_only(each)} for each in found],
        }
        texts, judged = _judged_otherwise(name, sandwiches)
        judged -= ids
        yield {
            **base,
            "by": "clean",
            "held": len(judged) <= beside["allowed"],
            "compared": texts,
            "inside": len(judged),
            "texts": sorted(judged),
            "found": [],
        }
    audit = None if method["report"] is None else method["report"]["audit"]
    if audit is not None:
        found = [
            {**each, "found": each["attacked"], "attack": None} for each in audit["contradictions"]
        ]
        yield {
            "method": name,
            "by": "audit",
            "held": audit["passed"],
            "compared": audit["judged"],
            "inside": audit["wrong"],
            "texts": sorted({each["example_id"] for each in found}),
            "allowed": audit["allowed"],
            "found": [{"method": name, "by": "audit", **_only(each)} for each in found],
        }


def _judged_otherwise(method: str, sandwiches: Facts) -> tuple[int, set[int]]:
    """Return how many right certificates were judged, and which texts broke inside them."""
    rows = [
        row
        for picture in sandwiches.values()
        for row in picture["methods"]
        if row["method"] == method and row["certified"] is not None
    ]
    held = (round(row["certified"][0] * row["texts"]) for row in rows)
    return max(held, default=0), {i for row in rows for i in row["inside"]}


def _only(found: Facts) -> dict[str, Any]:
    names = ("attack", "example_id", "attacker", "distance", "radius", "text", "found")
    return {name: found[name] for name in names}
