"""Tables of a comparison: for the terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from robust_nlp.compare.facts import (
    certified_at,
    main_threats,
    perturbations,
    score_of,
    told_radius,
)
from robust_nlp.reporting.facts import at
from robust_nlp.reporting.tables import NOTHING, Table, percent
from robust_nlp.scoring.wording import estimate

Facts = Mapping[str, Any]

#: Characters that LaTeX reads as something else.
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "≥": r"$\geq$",
    "−": "$-$",
    "\n": " ",
}


def comparison_tables(facts: Facts) -> list[Table]:
    """Return the tables of what was measured: accuracy, deletions, certificates, attacks, cost."""
    return list(named_tables(facts).values())


def named_tables(facts: Facts) -> dict[str, Table]:
    """Return the same tables by name: "accuracy", "deletions", each threat, "attacks", "cost"."""
    facts = {**facts, "methods": measured_methods(facts)}
    found = {"accuracy": _accuracy(facts), "deletions": _deletions(facts)}
    found |= {threat: _certified(facts, threat) for threat in facts["threats"]}
    found |= {"attacks": _attacks(facts), "cost": _cost(facts)}
    return {name: table for name, table in found.items() if len(table.header) > 1}


def measured_methods(facts: Facts) -> list[Facts]:
    """Return the methods of which anything is known."""
    return [method for method in facts["methods"] if method["clean_accuracy"] is not None]


def in_latex(table: Table) -> str:
    """Write a table in LaTeX; it needs the package booktabs."""
    rows = [table.header, *table.rows]
    head, *body = (" & ".join(map(_latex, row)) + r" \\" for row in rows)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(table.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def in_csv(facts: Facts) -> str:
    """Write one row a method and one column a number, as shares and seconds, unrounded."""
    rows = [_flat(facts, method) for method in measured_methods(facts)]
    file = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def perturbation_name(perturbation: str) -> str:
    """Say a perturbation, such as "delete words, most important"."""
    kind, _, how = perturbation.partition("[")
    order = how.rstrip("]").partition(" by ")[0]
    return (f"{kind}, {order}" if order else kind).replace("_", " ")


def milliseconds(seconds: float) -> str:
    """Write a time in thousandths of a second, with three digits."""
    return f"{1000.0 * seconds:,.{0 if seconds >= 0.1 else 1 if seconds >= 0.01 else 2}f}"


def _accuracy(facts: Facts) -> Table:
    domains = any(method["domains"] for method in facts["methods"])
    attacked = any(method["attacks"] for method in facts["methods"])
    header = ["method", "clean accuracy", "same answer"]
    header += ["worst domain"] if domains else []
    certified = main_threats(facts["methods"])
    header += [f"certified r = {_told(facts, threat)}\n{threat}" for threat in certified]
    header += ["worst attack"] if attacked else []
    rows = []
    for method in facts["methods"]:
        worst = method["worst_domain"]
        same = method["same_answer"]
        row = [
            method["method"],
            estimate(method["clean_accuracy"]),
            NOTHING if same is None else percent(same["share"]),
        ]
        if domains:
            row.append(NOTHING if worst is None else _named(worst))
        row += [_certified_here(facts, method, threat) for threat in certified]
        if attacked:
            found = method["attacks"]
            row.append(NOTHING if found is None else estimate(found["worst_case"]))
        rows.append(row)
    return Table(title=f"Accuracy in %, with 95 % intervals{_n(facts)}", header=header, rows=rows)


def _told(facts: Facts, threat: str) -> int:
    return told_radius(facts["radii"][threat])


def _certified_here(facts: Facts, method: Facts, threat: str) -> str:
    """Return certified accuracy at the first radius of at least 1, with its interval."""
    curve = (method["certified"] or {}).get(threat)
    if curve is None:
        return NOTHING
    point = at(curve, _told(facts, threat))
    return estimate({"value": point["share"], "low": point["low"], "high": point["high"]})


def _deletions(facts: Facts) -> Table:
    names = perturbations(facts["methods"])
    rows = []
    for method in facts["methods"]:
        found = [score_of(method, name) for name in names]
        scores = (None if score is None else score["mean_score"] for score in found)
        rows.append([method["method"], *(estimate(score, points=True) for score in scores)])
    return Table(
        title="Robustness score: clean accuracy less mean accuracy as ever more of a text is "
        "changed, in points; less is better",
        header=["method", *(perturbation_name(name) for name in names)],
        rows=rows,
    )


def _certified(facts: Facts, threat: str) -> Table:
    radii = facts["radii"][threat]
    rows = []
    for method in facts["methods"]:
        curve = (method["certified"] or {}).get(threat)
        shares = [None if curve is None else certified_at(curve, radius) for radius in radii]
        rows.append([method["method"], *map(percent, shares)])
    return Table(
        title=f"Certified accuracy in % by radius, attacker: {threat}",
        header=["method", *(f"r = {radius}" for radius in radii)],
        rows=rows,
    )


def _attacks(facts: Facts) -> Table:
    found = [method["attacks"]["under"] for method in facts["methods"] if method["attacks"]]
    names = list(dict.fromkeys(name for under in found for name in under))
    rows = []
    for method in facts["methods"]:
        under = method["attacks"]["under"] if method["attacks"] else {}
        rows.append([method["method"], *(estimate(under.get(name)) for name in names)])
    cumulative = any(m["attacks"]["cumulative"] for m in facts["methods"] if m["attacks"])
    counted = "; a text that a cheaper attack broke counts as broken" if cumulative else ""
    return Table(
        title=f"Accuracy in % under attack{counted}",
        header=["method", *names],
        rows=rows,
    )


def _cost(facts: Facts) -> Table:
    rows = []
    for method in facts["methods"]:
        cost = method["cost"]
        training, answer, proof = cost["training"], cost["answer"], cost["certificate"]
        memory = cost["memory"].get("answer")
        rows.append(
            [
                method["method"],
                NOTHING if training is None else _seconds(training),
                NOTHING if answer is None else milliseconds(answer["seconds"]),
                NOTHING if answer is None else f"{answer['calls']:,.1f}",
                NOTHING if proof is None else milliseconds(proof["seconds"]),
                NOTHING if proof is None else f"{proof['calls']:,.1f}",
                NOTHING if memory is None else f"{memory / 2**20:,.0f}",
            ]
        )
    return Table(
        title="Cost: seconds of training, milliseconds and texts that the classifier reads for an "
        "answer and for a certificate, memory in MiB",
        header=[
            "method",
            "training\ns",
            "answer\nms",
            "answer\ncalls",
            "certificate\nms",
            "certificate\ncalls",
            "memory\nMiB",
        ],
        rows=rows,
    )


def _seconds(training: Facts) -> str:
    return f"{'≥ ' if training['resumed'] else ''}{training['seconds']:,.1f}"


def _named(worst: Facts) -> str:
    return f"{estimate(worst['accuracy'])} {worst['domain']}"


def _n(facts: Facts) -> str:
    texts = facts["texts"]
    said = [f"{texts[stage]:,} {word}" for stage, word in _DONE.items() if stage in texts]
    return f" (texts: {', '.join(said)})" if said else ""


_DONE = {"score": "scored", "certify": "certified", "attack": "attacked"}


def _flat(facts: Facts, method: Facts) -> dict[str, Any]:
    row: dict[str, Any] = {"method": method["method"], "smoothed": method["smoothed"]}

    def put(name: str, found: Facts | None) -> None:
        for end in ("value", "low", "high") if found is not None else ():
            row[name if end == "value" else f"{name}_{end}"] = found[end] if found else None

    put("clean_accuracy", method["clean_accuracy"])
    row["same_answer"] = method["same_answer"] and method["same_answer"]["share"]
    worst = method["worst_domain"]
    if worst is not None:
        row["worst_domain"] = worst["domain"]
        put("worst_domain_accuracy", worst["accuracy"])
    for score in method["scores"]:
        put(f"score[{score['perturbation']}]", score["mean_score"])
        put(f"area[{score['perturbation']}]", score["area"])
    for threat, curve in (method["certified"] or {}).items():
        for point in _points(curve, facts["radii"][threat]):
            found = {"value": point["share"], "low": point["low"], "high": point["high"]}
            put(f"certified[{threat}][{point['radius']}]", found)
    if method["attacks"]:
        put("attacked_worst", method["attacks"]["worst_case"])
        for name, found in method["attacks"]["under"].items():
            put(f"attacked[{name}]", found)
    cost = method["cost"]
    row["training_seconds"] = cost["training"] and cost["training"]["seconds"]
    for what in ("answer", "certificate"):
        for unit in ("seconds", "calls"):
            row[f"{what}_{unit}"] = cost[what] and cost[what][unit]
    for stage, size in cost["memory"].items():
        row[f"memory_bytes_{stage}"] = size
    return row


def _points(curve: Facts, radii: Iterable[int]) -> list[Facts]:
    wanted = set(radii)
    return [point for point in curve["curve"] if point["radius"] in wanted]


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
