"""Certified accuracy on SST-2 with and without a denoiser before the classifier.

    python benchmarks/sst2_denoised.py train   --data DIR [--only masking-0.8]
    python benchmarks/sst2_denoised.py certify --data DIR [--only masking-0.8/plain+words]
    python benchmarks/sst2_denoised.py found   --data DIR  # hidden words that denoisers find
    python benchmarks/sst2_denoised.py table   # writes benchmarks/results/sst2_denoised.{md,json}

Rows are a mechanism, a classifier (`plain`, trained without noise, or `trained` under the noise)
and a denoiser, if any: `words` learned to find the hidden words; `stable` goes on from it, and
learns to keep the plain classifier's answers besides; with `-rounds` slots are filled in three
rounds, with `-fills` four drawn versions share each vote. Classifiers are shared with
benchmarks/sst2_deletion.py. `train` and `certify` resume where they stopped. DIR holds
{train,validation,test}.jsonl.gz.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sst2_deletion as classifiers
import typer

ROOT = Path(__file__).parent
RUNS = Path("runs/sst2-denoised")
RESULTS = ROOT / "results" / "sst2_denoised.md"
RADII = range(6)

#: Overrides that make the mechanism, and train a classifier under it.
MECHANISMS = {
    "masking-0.8": classifiers.masking(0.8),
    "deletion-0.8": classifiers.deletion(0.8),
}
#: Overrides that train a denoiser, given the mechanism's name.
DENOISERS: dict[str, Callable[[str], list[str]]] = {
    "words": lambda _: [],
    "stable": lambda name: [
        f"denoiser.model={RUNS / f'{name}-words' / 'denoiser'}",
        "denoiser.train.stability=1.0",
        f"denoiser.train.classifier={classifiers.RUNS / 'plain' / 'model'}",
    ],
}
#: Overrides of how it repairs.
REPAIRS = {
    "": [],
    "-rounds": ["denoiser.rounds=3"],
    "-fills": ["denoiser.fills=4", "denoiser.temperature=0.7"],
}
#: What is certified without `--only`.
VARIANTS = ("plain", "plain+words", "plain+stable", "trained", "trained+words")

app = typer.Typer(add_completion=False)


def mechanism(name: str) -> list[str]:
    """Leave out what is about training a classifier."""
    entries = [entry for entry in MECHANISMS[name] if not entry.startswith("train.")]
    if name.startswith("masking"):
        return entries
    return [
        f"mechanism={{kind: randomized_deletion, p_del: {name.split('-')[1]}}}",
        "certify.attackers=[insert+delete+substitute, delete]",
    ]


def denoised_recipe(name: str, data: str, *overrides: str):
    from robust_nlp.recipe import load_recipe

    files = [f"data.files.{s}={data}/{s}.jsonl.gz" for s in ("train", "validation", "test")]
    path = ROOT.parent / "recipes" / "sst2_denoised.yaml"
    return load_recipe(path, [f"name={name}", "model.device=cpu", *files, *overrides])


def variant_recipe(name: str, variant: str, data: str, *extra: str):
    classifier, _, denoiser = variant.partition("+")
    folder = classifiers.RUNS / ("plain" if classifier == "plain" else name) / "model"
    overrides = [*mechanism(name), f"certify.model={folder}"]
    if not denoiser:
        overrides.append("denoiser=null")
    else:
        training, dash, repair = denoiser.partition("-")
        model = RUNS / f"{name}-{training}" / "denoiser"
        overrides += [f"denoiser.model={model}", *REPAIRS[dash + repair]]
    return denoised_recipe(f"{name}-{variant}", data, *overrides, *extra)


@app.command()
def train(
    data: str = typer.Option(...),
    only: list[str] = typer.Option([], help="Mechanisms."),
    denoisers: list[str] = typer.Option(["words", "stable"], help="Denoisers."),
    set_: list[str] = typer.Option([], "--set", help="Overrides of the denoisers."),
) -> None:
    """Train the plain classifier, and for each mechanism a classifier and denoisers."""
    from robust_nlp import pipeline

    def classifier(name: str, *overrides: str) -> None:
        recipe = classifiers.recipe(name, data, *overrides)
        pipeline.train(recipe, classifiers.RUNS / name)

    classifier("plain", *classifiers.PLAIN)
    for name in only or MECHANISMS:
        classifier(name, *MECHANISMS[name])
        for denoiser in denoisers:
            overrides = [*mechanism(name), *DENOISERS[denoiser](name), *set_]
            recipe = denoised_recipe(f"{name}-{denoiser}", data, *overrides)
            pipeline.train_denoiser(recipe, RUNS / f"{name}-{denoiser}")


@app.command()
def certify(
    data: str = typer.Option(...),
    only: list[str] = typer.Option([], help="Mechanism, or mechanism/variant."),
    set_: list[str] = typer.Option([], "--set", help="Overrides of the recipes."),
    limit: int | None = None,
) -> None:
    """Certify the test file with each variant."""
    from robust_nlp import pipeline

    for entry in only or MECHANISMS:
        name, _, variant = entry.partition("/")
        for each in [variant] if variant else VARIANTS:
            recipe = variant_recipe(name, each, data, *set_)
            pipeline.certify(recipe, RUNS / "certified" / name / each, limit=limit)


@app.command()
def found(
    data: str = typer.Option(...),
    only: list[str] = typer.Option([], help="Mechanisms."),
    limit: int = 300,
) -> None:
    """Measure which share of the hidden words each denoiser finds in validation texts."""
    import torch

    from robust_nlp.data import load_split
    from robust_nlp.denoising.collator import FillCollator
    from robust_nlp.denoising.masked_lm import MaskedLMDenoiser
    from robust_nlp.denoising.wording import NO_TARGET

    for folder in sorted(RUNS.glob("*/denoiser")):
        name, _, denoiser = folder.parent.name.rpartition("-")
        if only and name not in only:
            continue
        recipe = denoised_recipe(name, data, *mechanism(name))
        model = MaskedLMDenoiser.from_pretrained(folder, device="cpu")
        collator = FillCollator(
            model.tokenizer,
            recipe.mechanism,
            gap_masks=model.gap_masks,
            max_length=model.max_length,
            seed=recipe.seed,
        )
        texts = load_split(recipe.data, "validation").texts[:limit]
        hidden: Counter[int] = Counter()
        right = total = 0
        model.model.eval()
        for start in range(0, len(texts), 32):
            batch = collator(
                [
                    {"text": text, "example_id": start + i, "fixed": True}
                    for i, text in enumerate(texts[start : start + 32])
                ]
            )
            with torch.inference_mode():
                scores = model.model(batch["input_ids"], attention_mask=batch["attention_mask"])
            asked = batch["targets"] != NO_TARGET
            words = batch["targets"][asked]
            right += int((scores.logits[asked].argmax(-1) == words).sum())
            total += len(words)
            hidden.update(words.tolist())
        result = {
            "mechanism": name,
            "denoiser": denoiser,
            "texts": len(texts),
            "hidden_words": total,
            "found": right / total,
            "most_frequent_word": hidden.most_common(1)[0][1] / total,
        }
        (folder.parent / "found.json").write_text(json.dumps(result) + "\n")
        typer.echo(json.dumps(result))


@app.command()
def table() -> None:
    """Write the table from the certificates on disk."""
    from robust_nlp import certificate_from_votes, certified_accuracy
    from robust_nlp.reporting.texts import votes_of_row
    from robust_nlp.results import RunDirectory
    from robust_nlp.threats import parse_attacker

    entries: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for folder in sorted((RUNS / "certified").glob("*/*")):
        run = RunDirectory(folder)
        rows, recipe, manifest = run.rows(), run.recipe(), run.manifest()
        if not rows:
            continue
        versions = manifest["versions"]
        denoiser = recipe.denoiser
        asked = sum(row["votes_asked"] for row in rows) / len(rows)
        classified = sum(row["votes_classified"] for row in rows) / len(rows)
        for attacker in recipe.certify.attackers:
            certificates = [
                certificate_from_votes(
                    votes_of_row(row),
                    recipe.mechanism,
                    alpha=recipe.certify.plan.alpha,
                    attacker=parse_attacker(attacker),
                )
                for row in rows
            ]
            labels = [row["label"] for row in rows]
            entries.append(
                {
                    "mechanism": folder.parent.name,
                    "variant": folder.name,
                    "attacker": attacker,
                    "texts": len(rows),
                    "certified_accuracy": certified_accuracy(certificates, labels, RADII),
                    "one_vote": sum(
                        row["selection"][row["label"]] / sum(row["selection"])
                        for row in rows
                        if any(row["selection"])
                    )
                    / max(1, sum(any(row["selection"]) for row in rows)),
                    "same_answer": same_answer([c.predicted for c in certificates]),
                    "abstained": sum(c.abstains for c in certificates) / len(rows),
                    "votes_asked": asked,
                    "classifier_calls": classified * (1 if denoiser is None else denoiser.fills),
                    "denoiser_calls": 0 if denoiser is None else classified * denoiser.rounds,
                    "seconds": sum(row["seconds"] for row in rows) / len(rows),
                }
            )
    words_found = [json.loads(path.read_text()) for path in sorted(RUNS.glob("*/found.json"))]
    RESULTS.with_suffix(".json").write_text(
        json.dumps({"versions": versions, "rows": entries, "found": words_found}, indent=1) + "\n"
    )
    RESULTS.write_text(markdown(entries, versions, words_found))
    typer.echo(RESULTS.read_text())


def same_answer(answers: list[int | None]) -> float:
    """Return the share of the most frequent class among the answers."""
    given = Counter(answer for answer in answers if answer is not None)
    return max(given.values(), default=0) / max(1, given.total())


def markdown(
    entries: list[dict[str, Any]], versions: dict[str, str], words_found: list[dict[str, Any]]
) -> str:
    lines = [
        "# SST-2: certified accuracy with a denoiser before the classifier",
        "",
        "Test file of 1,821 sentences, or its beginning where `texts` is less; MiniLM (22 M",
        "parameters, 6 layers) as classifier and, with a head of tied embeddings, as denoiser,",
        "trained to fill in words under the mechanism's own noise on the training file. `plain`",
        "classifiers never saw noise, `trained` ones did. Sequential votes at alpha 0.05 per text,",
        "at most the precision of 1,000 votes; seed 0. A text counts at radius r if it is",
        "classified correctly and certified that far; abstentions count as wrong.",
        "",
        "`one vote`: share of right answers among single noisy texts (the selection votes); `same "
        "answer`: share of the more frequent class among the answers (half of the texts have it).",
        "",
        "| mechanism | classifier + denoiser | attacker | "
        + " | ".join(f"r={r}" for r in RADII)
        + " | abstain | one vote | same answer |",
        "|---|---|---|" + "--:|" * (len(RADII) + 3),
    ]
    for entry in entries:
        cells = [f"{100 * share:.1f}" for share in entry["certified_accuracy"].values()]
        cells += [f"{100 * entry[what]:.1f}" for what in ("abstained", "one_vote", "same_answer")]
        names = (entry["mechanism"], entry["variant"], entry["attacker"])
        lines.append("| " + " | ".join((*names, *cells)) + " |")
    lines += [
        "",
        "In percent of all texts. Cost per text; model calls are inputs read, at most (equal",
        "repaired texts are classified once):",
        "",
        "| mechanism | classifier + denoiser | texts | votes asked | classifier | denoiser | s |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    seen = set()
    for entry in entries:
        names = (entry["mechanism"], entry["variant"])
        if names in seen:
            continue
        seen.add(names)
        costs = ("votes_asked", "classifier_calls", "denoiser_calls")
        cells = [str(entry["texts"]), *(f"{entry[cost]:.0f}" for cost in costs)]
        lines.append("| " + " | ".join((*names, *cells, f"{entry['seconds']:.2f}")) + " |")
    lines += [
        "",
        "Hidden words that the denoiser finds, beside always writing the most frequent one:",
        "",
        "| mechanism | denoiser | texts | hidden words | found | most frequent word |",
        "|---|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['mechanism']} | {row['denoiser']} | {row['texts']} | {row['hidden_words']} "
        f"| {100 * row['found']:.1f} | {100 * row['most_frequent_word']:.1f} |"
        for row in words_found
    ]
    named = ", ".join(
        f"{name} {versions[name]}"
        for name in ("torch", "transformers", "numpy")
        if name in versions
    )
    lines += [
        "",
        "Two shared CPU cores, other work running beside: seconds are an upper bound. "
        + named
        + ".",
        "",
        "```",
        "python benchmarks/sst2_denoised.py train   --data DIR",
        "python benchmarks/sst2_denoised.py certify --data DIR",
        "python benchmarks/sst2_denoised.py found   --data DIR",
        "python benchmarks/sst2_denoised.py table",
        "```",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
