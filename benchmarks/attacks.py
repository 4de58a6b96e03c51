"""Attacks and certificates on the same texts: SST-2 and AG News, with and without defences.

    python benchmarks/attacks.py train  sst2    --data DIR [--only deletion-0.8]
    python benchmarks/attacks.py attack sst2    --data DIR --swaps FILE [--only plain] [--limit 200]
    python benchmarks/attacks.py table          # writes benchmarks/results/attacks.{md,json}

`attack` certifies the texts that it attacks first, where the classifier is smoothed, and audits the
certificates afterwards. All steps resume. DIR holds {train,test}.jsonl.gz (SST-2: validation, too);
FILE allowed swaps (JSON, word -> list of words; .gz), which stand in for the counter-fitted vectors
of TextFooler and TextBugger. NLTK's data (stop words, taggers; WordNet for PWWS) are where
NLTK_DATA says. BAE asks the masked language model of benchmarks/sst2_denoised.py, trained on SST-2,
and is left out where there is none.
"""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).parent
RUNS = Path("runs/attacks")
RESULTS = ROOT / "results" / "attacks.md"
MASKED_LM = Path("runs/sst2-denoised/masking-0.8-words/denoiser")

#: Rows of AG News that a classifier is trained with on a CPU, and those after them that validate.
AG_NEWS = (8_000, 500)

#: Word edits within which finds are counted.
RADII = (1, 2, 4, 8)

ATTACKS = ("deepwordbug", "textbugger", "pwws", "textfooler")

PLAIN = ["train.noise=false", "train.args.learning_rate=5e-5"]
#: Overrides of recipes/sst2_deletion.yaml. Smoothed classifiers are trained under their noise.
VARIANTS = {
    "plain": PLAIN,
    "adversarial": [
        *PLAIN,
        "train.adversarial={kind: freelb, steps: 2, relative: true, step_size: 0.02, "
        "init_magnitude: 0.02}",
    ],
    "deletion-0.8": ["mechanism.p_del=0.8"],
    "masking-0.8": [
        "mechanism={kind: random_masking, p_mask: 0.8}",
        "certify.attackers=[substitute]",
    ],
}
UNSMOOTHED = ("plain", "adversarial")

#: Votes of search and judge where noise leaves many tokens: what two CPU cores can do. These
#: classifiers answer in half precision, which their training does not depend on.
VOTES = {
    ("sst2", "masking-0.8"): (16, 400),
    ("ag-news", "deletion-0.8"): (16, 400),
    ("ag-news", "masking-0.8"): (8, 200),
}

app = typer.Typer(add_completion=False)

Name = Annotated[str, typer.Argument(help="sst2 or ag-news.")]
Data = Annotated[str, typer.Option(help="Folder of the data set.")]
Only = Annotated[list[str] | None, typer.Option(help="Variants; all by default.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Entries of the recipe.")]


def files(name: str, data: str) -> list[str]:
    """Return where the splits are; AG News gets a validation split of its own."""
    if name == "sst2":
        paths = {s: f"{data}/{s}.jsonl.gz" for s in ("train", "validation", "test")}
    else:
        folder = RUNS / "data" / name
        paths = {s: str(folder / f"{s}.jsonl") for s in ("train", "validation")}
        paths["test"] = f"{data}/test.jsonl.gz"
        if not Path(paths["validation"]).exists():
            folder.mkdir(parents=True, exist_ok=True)
            with gzip.open(f"{data}/train.jsonl.gz", "rt", encoding="utf-8") as lines:
                for split, rows in zip(("train", "validation"), AG_NEWS, strict=True):
                    Path(paths[split]).write_text("".join(islice(lines, rows)), encoding="utf-8")
    return [f"data.files.{split}={path}" for split, path in paths.items()]


def recipe(name: str, variant: str, data: str, *extra: str) -> Any:
    from robust_nlp.recipe import load_recipe

    overrides = [
        f"name={name}-{variant}",
        "model.device=cpu",
        "train.args.bf16=true",
        "train.args.num_train_epochs=3",
        *(["model.max_length=64"] if name == "ag-news" else []),
        *(["model.dtype=bfloat16"] if (name, variant) in VOTES else []),
        *files(name, data),
        *VARIANTS[variant],
        *extra,
    ]
    return load_recipe(ROOT.parent / "recipes" / "sst2_deletion.yaml", overrides)


def attacks(name: str, variant: str, swaps: str) -> list[str]:
    """Return the attack section of a recipe."""
    votes = zip(("search", "judge"), VOTES.get((name, variant), ()), strict=False)
    names = [*ATTACKS, "bae"] if MASKED_LM.exists() else list(ATTACKS)
    kind = "plain" if variant in UNSMOOTHED else "smoothed"
    return [
        f"attack.classifiers=[{kind}]",
        f"attack.attacks={json.dumps(names)}",
        f"attack.swaps={swaps}",
        "attack.stand_ins=missing",
        *(f"attack.{who}_votes={number}" for who, number in votes),
        *([f"attack.masked_lm={MASKED_LM}"] if MASKED_LM.exists() else []),
    ]


@app.command()
def train(name: Name, data: Data, only: Only = None, set_: Set = None) -> None:
    """Train each variant."""
    from robust_nlp import pipeline

    for variant in only or VARIANTS:
        pipeline.train(recipe(name, variant, data, *(set_ or ())), RUNS / name / variant)


@app.command()
def attack(
    name: Name,
    data: Data,
    swaps: Annotated[str, typer.Option(help="Allowed swaps.")],
    only: Only = None,
    limit: Annotated[int, typer.Option(help="Texts.")] = 200,
    audited: Annotated[int, typer.Option(help="Texts that are audited.")] = 50,
    set_: Set = None,
) -> None:
    """Certify, attack and audit each variant."""
    from robust_nlp import pipeline
    from robust_nlp.attacks.drive import attack_recipe
    from robust_nlp.attacks.wording import write_attacks
    from robust_nlp.audit.run import audit_run

    for variant in only or VARIANTS:
        run = RUNS / name / variant
        chosen = recipe(name, variant, data, *attacks(name, variant, swaps), *(set_ or ()))
        if variant not in UNSMOOTHED:
            pipeline.certify(chosen, run, limit=limit)
        attack_recipe(chosen, run, limit=limit)
        typer.echo(write_attacks(run))
        if variant not in UNSMOOTHED:
            audit_run(run, limit=audited)


@app.command()
def table() -> None:
    """Write the table from what is on disk."""
    from robust_nlp.audit.facts import audit_facts
    from robust_nlp.results import RunDirectory

    entries: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for path in sorted(RUNS.glob("*/*/attacks.json")):
        run = RunDirectory(path.parent)
        manifest = run.manifest()
        versions = manifest["versions"]
        facts = json.loads(path.read_text(encoding="utf-8"))
        for kind, found in facts["classifiers"].items():
            audit = None
            if run.parts_done():
                audit = audit_facts(run, run.rows(), manifest["labels"])
            entries.append(
                {
                    "data": path.parent.parent.name,
                    "variant": path.parent.name,
                    "classifier": kind,
                    "votes": [found["search_votes"], found["judge_votes"]]
                    if "search_votes" in found
                    else None,
                    **{name: found[name] for name in ("worst_case", "attacks", "findings")},
                    "certificates": found["certificates"],
                    "unbroken": unbroken(run, kind),
                    "audit": None
                    if audit is None
                    else {name: audit[name] for name in ("passed", "texts", "wrong", "sentences")},
                }
            )
    RESULTS.with_suffix(".json").write_text(
        json.dumps({"versions": versions, "rows": entries}, indent=1, ensure_ascii=False) + "\n"
    )
    RESULTS.write_text(markdown(entries, versions), encoding="utf-8")
    typer.echo(RESULTS.read_text(encoding="utf-8"))


def unbroken(run: Any, kind: str) -> dict[int, float]:
    """Return the share of texts that no confirmed find within so many edits breaks.

    The edits are those of the first attacker of the certificates.
    """
    from pyarrow import parquet

    from robust_nlp.attacks.rows import AttackRow
    from robust_nlp.attacks.wording import FOLDER
    from robust_nlp.compare.sandwich import broken_at
    from robust_nlp.threats import ThreatModel, parse_attacker

    table = parquet.read_table(run.path / FOLDER / kind / "rows.parquet")
    rows = [AttackRow(**row) for row in table.to_pylist()]
    threat = ThreatModel(attacker=parse_attacker(run.recipe().certify.attackers[0]))
    broken = broken_at(rows, threat, "second").values()
    return {r: sum(at > r for at in broken) / len(broken) for r in RADII}


def markdown(entries: list[dict[str, Any]], versions: dict[str, str]) -> str:
    from robust_nlp.scoring.wording import estimate

    lines = [
        "# Attacks and certificates on the same texts",
        "",
        "MiniLM (22 M parameters, 6 layers), trained for three epochs; AG News with 8,000 rows, "
        "of which the first 64 tokens are read. The first texts of the test file, as many as the "
        "table says. `adversarial`: trained with FreeLB. `deletion`, `masking`: trained under the "
        "noise, smoothed by votes. Robust accuracy is the worst case of all attacks, the cheapest "
        "first; the search sees soft votes, and a judge with fresh votes confirms each success. "
        "`votes`: of the search, and of the judge at most; classifiers with fewer than 32 and "
        "1,000 answer in bfloat16. Doubts of the judge and abstentions count as broken in clean "
        "and robust accuracy, as unbroken in the lenient column. Certified, and not broken, are "
        "of word edits of any kind (masking: substitutions alone), alpha 0.05, and bound the "
        "truth from both sides: a text counts as not broken within r edits unless a confirmed "
        "find is that near, or its answer is wrong without any; doubts and abstentions count as "
        "not broken there.",
        "",
        "| data | classifier | texts | clean % | robust % | lenient % | score | in search % "
        "| finds inside a radius | audit | votes |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    for row in entries:
        worst, beside = row["worst_case"], row["certificates"]
        inside = "–"
        if beside is not None:
            inside = f"{len({c['example_id'] for c in beside['contradictions']})}"
            inside += f" of {beside['compared']}"
        audit = row["audit"]
        said = "–"
        if audit is not None:
            said = f"{'passes' if audit['passed'] else 'FAILS'}, {audit['texts']} texts"
        votes = "–" if row["votes"] is None else " / ".join(f"{n:,}" for n in row["votes"])
        lines.append(
            f"| {row['data']} | {row['variant']} | {worst['examples']} "
            f"| {estimate(worst['clean_accuracy'])} | {estimate(worst['robust_accuracy'])} "
            f"| {100 * worst['robust_accuracy_lenient']['value']:.1f} "
            f"| {estimate(worst['robustness_score'], points=True)} "
            f"| {100 * worst['in_search_accuracy']['value']:.1f} | {inside} | {said} | {votes} |"
        )
    lines += [
        "",
        "Certified, and not broken, within r word edits, %:",
        "",
        "| data | classifier | "
        + " | ".join(f"certified r={r} | not broken r={r}" for r in RADII)
        + " |",
        "|---|---|" + "--:|" * (2 * len(RADII)),
    ]
    for row in entries:
        beside, cells = row["certificates"], []
        shares = {} if beside is None else next(iter(beside["certified_accuracy"].values()))
        for r in RADII:
            proved = "–" if beside is None else f"{100 * shares.get(str(r), 0.0):.1f}"
            cells += [proved, f"{100 * row['unbroken'][r]:.1f}"]
        lines.append(f"| {row['data']} | {row['variant']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Attack by attack; each goes on with the texts that the ones before did not break:",
        "",
        "| data | classifier | attack | attacked | success % | in doubt | stopped | words changed "
        "| questions | forwards | s |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in entries:
        for attack_name, did in row["attacks"].items():
            outcomes, edits, rate = did["outcomes"], did["edits"], did["attack_success_rate"]
            stopped = sum(outcomes.get(each, 0) for each in ("budget", "timeout", "error"))
            cells = [
                row["data"],
                row["variant"],
                attack_name,
                str(did["examples"] - outcomes.get("skipped", 0)),
                "–" if rate is None else f"{100 * rate['value']:.1f}",
                str(outcomes.get("uncertain", 0)),
                str(stopped),
                "–" if edits is None else f"{edits['median']:.0f}",
                *(
                    "–" if did[cost] is None else f"{did[cost]:,.{places}f}"
                    for cost, places in (("queries", 0), ("forwards", 0), ("seconds", 2))
                ),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    flagged = [
        f"- {row['data']}, {row['variant']}: {finding['words']}"
        for row in entries
        for finding in row["findings"]
        if finding["flagged"]
    ]
    if flagged:
        lines += ["", "What the detectors flagged:", "", *flagged]
    named = ", ".join(
        f"{name} {versions[name]}"
        for name in ("torch", "transformers", "textattack", "numpy")
        if name in versions
    )
    lines += [
        "",
        "Words changed: median edit distance of successes; questions, forwards of the base "
        "classifier and seconds (two shared CPU cores): means per attacked text. " + named + ".",
        "",
        "```",
        "python benchmarks/attacks.py train  sst2    --data DIR",
        "python benchmarks/attacks.py attack sst2    --data DIR --swaps FILE",
        "python benchmarks/attacks.py train  ag-news --data DIR",
        "python benchmarks/attacks.py attack ag-news --data DIR --swaps FILE",
        "python benchmarks/attacks.py table",
        "```",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
