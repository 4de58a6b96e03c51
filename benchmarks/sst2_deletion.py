"""Certified accuracy on SST-2: deletion at several rates, masking, and training without noise.

    python benchmarks/sst2_deletion.py train   --data DIR [--only deletion-0.9]
    python benchmarks/sst2_deletion.py certify --data DIR [--only deletion-0.9]
    python benchmarks/sst2_deletion.py table   # writes benchmarks/results/sst2_deletion.{md,json}

`train` and `certify` resume where they stopped. DIR holds {train,validation,test}.jsonl.gz.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).parent
RUNS = Path("runs/sst2")
RESULTS = ROOT / "results" / "sst2_deletion.md"
RADII = range(7)


def deletion(p_del: float) -> list[str]:
    return [f"mechanism.p_del={p_del}"]


def masking(p_mask: float) -> list[str]:
    return [
        f"mechanism={{kind: random_masking, p_mask: {p_mask}}}",
        "certify.attackers=[substitute]",
        "train.args.num_train_epochs=3",  # inputs are as long as the texts
    ]


#: On a CPU, in bfloat16: about twice as fast where the processor has it. What is certified is the
#: classifier in this precision.
PRECISION = ["model.device=cpu", "model.dtype=bfloat16", "train.args.bf16=true"]

#: Overrides of recipes/sst2_deletion.yaml, by variant.
VARIANTS = {
    "deletion-0.8": deletion(0.8),
    "deletion-0.9": deletion(0.9),
    "deletion-0.95": deletion(0.95),
    "masking-0.9": masking(0.9),
}
#: A classifier trained without noise, certified under deletion.
PLAIN = ["train.noise=false", "train.args.num_train_epochs=3", "train.args.learning_rate=5e-5"]

app = typer.Typer(add_completion=False)


def recipe(variant: str, data: str, *extra: str):
    from robust_nlp.recipe import load_recipe

    files = [f"data.files.{s}={data}/{s}.jsonl.gz" for s in ("train", "validation", "test")]
    overrides = [f"name={variant}", *files, *PRECISION, *VARIANTS.get(variant, []), *extra]
    return load_recipe(ROOT.parent / "recipes" / "sst2_deletion.yaml", overrides)


@app.command()
def train(data: str = typer.Option(...), only: list[str] = typer.Option([])) -> None:
    """Train each variant, and the plain classifier."""
    from robust_nlp import pipeline

    for variant in only or ["plain", *VARIANTS]:
        extra = PLAIN if variant == "plain" else []
        pipeline.train(recipe(variant, data, *extra), RUNS / variant)


@app.command()
def certify(
    data: str = typer.Option(...), only: list[str] = typer.Option([]), limit: int | None = None
) -> None:
    """Certify the test file with each variant, and the plain classifier under p_del 0.9."""
    from robust_nlp import pipeline

    for variant in only or [*VARIANTS, "plain-0.9"]:
        if variant.startswith("plain-"):
            model = f"certify.model={RUNS / 'plain' / 'model'}"
            chosen = recipe(variant, data, *deletion(float(variant.split("-")[1])), model)
        else:
            chosen = recipe(variant, data)
        pipeline.certify(chosen, RUNS / variant, limit=limit)


@app.command()
def table() -> None:
    """Write the table from the certificates on disk."""
    from robust_nlp import certificate_from_votes, certified_accuracy
    from robust_nlp.reporting.texts import votes_of_row
    from robust_nlp.results import RunDirectory
    from robust_nlp.smoothing import mechanism_from_dict
    from robust_nlp.threats import parse_attacker

    entries: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for folder in sorted(RUNS.iterdir()):
        run = RunDirectory(folder)
        if not run.manifest()["stages"].get("certify"):
            continue
        manifest = run.manifest()
        trained = RunDirectory(
            RUNS / ("plain" if folder.name.startswith("plain-") else folder.name)
        )
        training = trained.manifest()["stages"]["train"]
        facts = {"versions": manifest["versions"], "host": manifest["host"]}
        rows = run.rows()
        mechanism = mechanism_from_dict(manifest["recipe"]["mechanism"])
        labels = [row["label"] for row in rows]
        # Votes stopped when the radius against the first was decided; all of them hold together.
        attackers = manifest["recipe"]["certify"]["attackers"]
        for attacker in dict.fromkeys([*attackers, "substitute"]):
            certificates = [
                certificate_from_votes(
                    votes_of_row(row),
                    mechanism,
                    alpha=manifest["recipe"]["certify"]["plan"]["alpha"],
                    attacker=parse_attacker(attacker),
                )
                for row in rows
            ]
            answers = Counter(c.predicted for c in certificates if not c.abstains)
            entries.append(
                {
                    "same_answer": max(answers.values()) / answers.total(),
                    "variant": folder.name,
                    "attacker": attacker,
                    "texts": len(rows),
                    "certified_accuracy": certified_accuracy(certificates, labels, RADII),
                    "abstained": sum(c.abstains for c in certificates) / len(rows),
                    "dead_zone": sum(c.dead_zone for c in certificates) / len(rows),
                    "exact": sum(c.alpha == 0.0 for c in certificates) / len(rows),
                    "votes_asked": sum(row["votes_asked"] for row in rows) / len(rows),
                    "votes_classified": sum(row["votes_classified"] for row in rows) / len(rows),
                    "seconds": manifest["stages"]["certify"]["seconds"],
                    "epochs": trained.manifest()["recipe"]["train"]["args"]["num_train_epochs"],
                    "training_seconds": training["seconds"],
                    "validation": training["best"],
                    "git_commit": manifest["git_commit"],
                }
            )
    RESULTS.with_suffix(".json").write_text(json.dumps({**facts, "rows": entries}, indent=1) + "\n")
    RESULTS.write_text(markdown(entries, **facts))
    typer.echo(RESULTS.read_text())


def markdown(entries: list[dict[str, Any]], versions: dict[str, str], host: dict[str, Any]) -> str:
    lines = [
        "# SST-2: certified accuracy under word edits",
        "",
        "The test file; MiniLM (22 M parameters, 6 layers) fine-tuned on the 6,920 sentences of",
        "the training file under the noise that it is certified with; `plain-R` fine-tuned",
        "without noise and certified under deletion at rate R. Training and certified classifier",
        "in bfloat16. Sequential votes at alpha 0.05 per text, at most the precision of 1,000",
        "votes; seed 0. A text counts at radius r if it is classified correctly and certified that",
        "far; abstentions count as wrong. Certificates of texts in the dead zone are true, but all",
        "texts that short have one and the same answer.",
        "",
        "| variant | attacker | "
        + " | ".join(f"r={r}" for r in RADII)
        + " | abstain | dead zone | same answer |",
        "|---|---|" + "--:|" * (len(RADII) + 3),
    ]
    for entry in entries:
        cells = [f"{100 * share:.1f}" for share in entry["certified_accuracy"].values()]
        cells += [f"{100 * entry[key]:.1f}" for key in ("abstained", "dead_zone", "same_answer")]
        lines.append(f"| {entry['variant']} | {entry['attacker']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "In percent of all texts. *Same answer* is the share of the more frequent class among the",
        "answers: near 100, the classifier hardly looks at the text, and is easy to certify (half",
        "of the sentences are positive). An attacker who cannot insert runs out of words: a text",
        "of n words counts up to r = n. Cost per text:",
        "",
        "| variant | texts | exact (no alpha), % | votes asked | votes classified | seconds "
        "| epochs | seconds of training | validation accuracy, % |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    seen = set()
    for entry in entries:
        if entry["variant"] in seen:
            continue
        seen.add(entry["variant"])
        lines.append(
            f"| {entry['variant']} | {entry['texts']} | {100 * entry['exact']:.1f} "
            f"| {entry['votes_asked']:.0f} | {entry['votes_classified']:.0f} "
            f"| {entry['seconds'] / entry['texts']:.2f} | {entry['epochs']} "
            f"| {entry['training_seconds']:.0f} | {100 * entry['validation']:.1f} |"
        )
    named = ", ".join(
        f"{name} {versions[name]}"
        for name in ("torch", "transformers", "numpy")
        if name in versions
    )
    lines += [
        "",
        "Validation accuracy is the smoothed one on 200 texts, 16 votes each, that chose the epoch",
        "(of `plain`, the accuracy without noise).",
        "",
        f"{host.get('cpu')}, {host.get('cores')} cores, other work running beside: seconds are an "
        f"upper bound. {named}.",
        "",
        "```",
        "python benchmarks/sst2_deletion.py train   --data DIR",
        "python benchmarks/sst2_deletion.py certify --data DIR",
        "python benchmarks/sst2_deletion.py table",
        "```",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
