"""The page of a comparison: one file, without scripts and without anything from the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robust_nlp.compare import page_tables
from robust_nlp.compare.charts import certified_chart, deletion_chart, length_chart, sandwich_chart
from robust_nlp.compare.contradictions import check_sentence, verdict
from robust_nlp.compare.cost_chart import cost_chart
from robust_nlp.compare.domain_chart import domain_chart
from robust_nlp.compare.facts import main_threats
from robust_nlp.compare.highlights import closing, highlights
from robust_nlp.compare.recipes import made_with
from robust_nlp.compare.tables import named_tables, perturbation_name
from robust_nlp.compare.words import front_sentence, kind_of
from robust_nlp.reporting.breakdown import shortened
from robust_nlp.reporting.differences import word_difference
from robust_nlp.reporting.html import template
from robust_nlp.scoring.perturbations import DeleteWords

Facts = Mapping[str, Any]


def render(facts: Facts) -> str:
    """Return the page that shows the facts of a comparison, which compare.json holds."""
    tables = named_tables(facts)
    rates = [
        (
            deletion_chart(facts, name, f"deleted-{index}"),
            page_tables.deletion_table(facts, name),
        )
        for index, name in enumerate(facts["perturbations"])
        if name.startswith(DeleteWords.kind)
    ]
    return template("compare.html.j2").render(
        facts,
        highlights=highlights(facts),
        closing=closing(facts),
        verdict=verdict(facts["contradictions"]),
        checks=[check_sentence(check) for check in facts["contradictions"]["checks"]],
        tables=tables,
        certified=_certified(facts, tables),
        rates=rates,
        fronts=_fronts(facts),
        domains_chart=domain_chart(facts),
        domain_table=page_tables.domain_table(facts),
        length_pairs=_lengths(facts),
        fragile=[_text(text) for text in facts["examples"]["fragile"]],
        stable=[_text(text) for text in facts["examples"]["stable"]],
        found=[_difference(each) for each in facts["contradictions"]["found"]],
        described=[_described(method) for method in facts["methods"]],
        settings_of=made_with(facts),
        alphas=_alphas(facts["recipe"]),
    )


def _certified(facts: Facts, tables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each threat its picture of all methods, and of each method a sandwich."""
    found = []
    for index, threat in enumerate(facts["threats"]):
        curves = [
            m["certified"][threat] for m in facts["methods"] if threat in (m["certified"] or {})
        ]
        unit = next(
            m["report"]["unit"] for m in facts["methods"] if threat in (m["certified"] or {})
        )
        picture = facts["sandwiches"].get(threat)
        rows = [] if picture is None else picture["methods"]
        found.append(
            {
                "threat": threat,
                "moves": curves[0]["moves"],
                "unit": unit,
                "main": threat in main_threats(facts["methods"]),
                "chart": certified_chart(facts, threat, f"certified-{index}"),
                "table": tables[threat],
                "sandwiches": [
                    (
                        row,
                        sandwich_chart(picture, row, f"both-{index}-{k}", threat=threat, unit=unit),
                    )
                    for k, row in enumerate(rows)
                    if picture is not None
                ],
                "sandwich_table": picture and page_tables.sandwich_table(picture, threat),
            }
        )
    return found


def _fronts(facts: Facts) -> list[dict[str, Any]]:
    main = main_threats(facts["methods"])
    return [
        {
            "sentence": front_sentence(front),
            "chart": cost_chart(facts, front, f"front-{index}"),
            "table": page_tables.front_table(front),
        }
        for index, front in enumerate(facts["fronts"])
        if front["threat"] in (None, *main)
    ]


def _lengths(facts: Facts) -> list[tuple[Any, Any]]:
    """Return pictures and tables by length: of clean texts, certificates, and attacks."""
    lengths, radius = facts["lengths"], facts["lengths"]["radius"]
    drawn = [("Clean accuracy", {m["method"]: m["clean"] for m in lengths["methods"]})]
    for threat in main_threats(facts["methods"]):
        rows = {m["method"]: m["certified"].get(threat) for m in lengths["methods"]}
        drawn.append((f"Certified accuracy at radius {radius} ({threat})", rows))
    attacked = {m["method"]: m["attacked"] for m in lengths["methods"]}
    drawn.append(("Accuracy under the worst attack", attacked))
    pairs = []
    for index, (what, rows) in enumerate(drawn):
        known = {
            method: each
            for method, each in rows.items()
            if each and any(cell["accuracy"] for cell in each)
        }
        chart = length_chart(facts, known, f"length-{index}", title=f"{what} by length")
        if chart is not None:
            title = f"{what} in % by length, with 95 % intervals"
            pairs.append((chart, page_tables.length_table(facts, known, title)))
    return pairs


def _text(text: Facts) -> dict[str, Any]:
    """Return a text with the words that its adversarial versions change."""
    methods = []
    for fate in text["methods"]:
        version, pieces, by = fate["version"], None, ""
        if version is not None:
            by = version["by"] if version["confirmed"] else perturbation_name(version["by"])
            if version["text"] is not None:
                pieces = word_difference(text["text"], version["text"])
        methods.append({**fate, "by": by, "pieces": pieces})
    quoted = {
        name: None if text[name] is None else shortened(text[name]) for name in ("text", "pair")
    }
    return {**text, **quoted, "methods": methods}


def _difference(found: Facts) -> dict[str, Any]:
    quoted = found["text"] is not None
    return {**found, "pieces": word_difference(found["text"], found["found"]) if quoted else None}


def _described(method: Facts) -> dict[str, Any]:
    report = method["report"]
    return {
        "method": method["method"],
        "what": kind_of(method),
        "changes": method["changes"],
        "alpha": None if report is None else report["alpha"],
        "threats": list(method["certified"] or {}),
        "how": None if report is None else report["methods"],
    }


def _alphas(recipe: Facts) -> dict[str, float]:
    """Return the failure probabilities that the recipe names, by what they are of."""
    plans = {
        "certificates": recipe["certify"]["plan"],
        "answers that are scored": (recipe["score"] or {}).get("plan"),
        "the judge of attacks": recipe["attack"],
    }
    return {what: plan["alpha"] for what, plan in plans.items() if plan and plan.get("alpha")}
