"""Accuracy on SST-2 when words are missing, for ways of augmenting the training texts.

    python benchmarks/missing_words.py train --data DIR [--only lengths] [--seeds 0]
    python benchmarks/missing_words.py score --data DIR [--only lengths] [--seeds 0] [--limit 500]
    python benchmarks/missing_words.py table  # writes benchmarks/results/missing_words.{md,json}

`train` and `score` resume where they stopped. DIR holds {train,validation,test}.jsonl.gz. Without a
GPU, `--set model.freeze=4` or `--set train.args.bf16=true`, for both commands, is faster. Most of
the time goes into the importance of words, which takes a pass per word of the training file and
epoch; `--pieces 8`, for both commands, takes 8 passes per sentence, each without a few words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer

ROOT = Path(__file__).parent
RUNS = Path("runs/missing-words")
RESULTS = ROOT / "results" / "missing_words.md"
CONTROL = "plain"
#: Passes per sentence at most that importance is measured with.
PIECES = 64
RANDOM = "{kind: delete_words, rate: 0.3}"
IMPORTANT = "{kind: delete_important_words, rate: 0.3, sharpness: 2.0, max_pieces: PIECES}"
LENGTHS = "{kind: crop, shortest: 0.3}"
#: The augmenters of the copies, by variant. All see each text as it is once an epoch, in as many
#: steps.
VARIANTS = {
    CONTROL: [],
    "random": [RANDOM],
    "important": [IMPORTANT],
    "lengths": [LENGTHS],
    "both": [IMPORTANT, LENGTHS],
}

app = typer.Typer(add_completion=False)


def recipe(variant: str, seed: int, data: str, pieces: int, extra: list[str]):
    from robust_nlp.recipe import load_recipe

    files = [f"data.files.{s}={data}/{s}.jsonl.gz" for s in ("train", "validation", "test")]
    copies = [augmenter.replace("PIECES", str(pieces)) for augmenter in VARIANTS[variant]]
    overrides = [
        f"name=missing-words-{variant}",
        f"seed={seed}",
        f"train.augmentation={{augmenters: [{', '.join(copies)}]}}"
        if copies
        else "train.augmentation=null",
        f"train.args.per_device_train_batch_size={64 if copies else 32}",
        *files,
        *extra,
    ]
    return load_recipe(ROOT.parent / "recipes" / "train" / "missing_words.yaml", overrides)


def folder(variant: str, seed: int) -> Path:
    return RUNS / variant / f"seed-{seed}"


Only = typer.Option([], help="Variants; all by default.")
Seeds = typer.Option([0, 1, 2], help="Seeds of training; repeatable.")
Pieces = typer.Option(PIECES, help="Passes per sentence at most that importance is measured with.")
Set = typer.Option([], "--set", help="Entries of the recipe, such as train.args.max_steps=2.")


def chosen(only: list[str], seeds: list[int]) -> Iterator[tuple[str, int]]:
    """Go through the variants for each seed, so that an interruption leaves comparable runs."""
    for name in only:
        if name not in VARIANTS:
            raise typer.BadParameter(f"there is no variant {name}; there are {', '.join(VARIANTS)}")
    for seed in seeds:
        for variant in only or VARIANTS:
            yield variant, seed


@app.command()
def train(
    data: str = typer.Option(...),
    only: list[str] = Only,
    seeds: list[int] = Seeds,
    pieces: int = Pieces,
    set_: list[str] = Set,
) -> None:
    """Train each variant with each seed."""
    from robust_nlp import pipeline

    for variant, seed in chosen(only, seeds):
        pipeline.train(recipe(variant, seed, data, pieces, set_), folder(variant, seed))


@app.command()
def score(
    data: str = typer.Option(...),
    only: list[str] = Only,
    seeds: list[int] = Seeds,
    pieces: int = Pieces,
    set_: list[str] = Set,
    limit: int | None = typer.Option(None, help="Test texts; 500 by default."),
) -> None:
    """Delete words of the test texts, at random and the most important first."""
    from robust_nlp.results import RunDirectory
    from robust_nlp.scoring.run import score_recipe

    for variant, seed in chosen(only, seeds):
        path = folder(variant, seed)
        if RunDirectory(path).trained:
            score_recipe(recipe(variant, seed, data, pieces, set_), path, limit=limit)
        else:
            typer.echo(f"{path} is not trained, and left out")


@app.command()
def table() -> None:
    """Write the table from the scores on disk, of the seeds that all variants have."""
    from robust_nlp.results import RunDirectory

    scored = {
        (variant, int(path.name.removeprefix("seed-"))): RunDirectory(path)
        for variant in VARIANTS
        for path in sorted((RUNS / variant).glob("seed-*"))
        if RunDirectory(path).manifest().get("stages", {}).get("score", {}).get("complete")
    }
    variants = [name for name in VARIANTS if any(name == variant for variant, _ in scored)]
    seeds = sorted({seed for _, seed in scored})
    seeds = [seed for seed in seeds if all((name, seed) in scored for name in variants)]
    if CONTROL not in variants or not seeds:
        raise typer.BadParameter(f"{RUNS} has no seed that all scored variants have; run `score`")
    facts = results({name: [scored[name, seed] for seed in seeds] for name in variants}, seeds)
    RESULTS.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    RESULTS.write_text(markdown(facts))
    typer.echo(RESULTS.read_text())


def results(runs: dict[str, list[Any]], seeds: list[int]) -> dict[str, Any]:
    """Gather what all variants did with the same texts.

    Args:
        runs: Run directories by variant, in the order of the seeds.
        seeds: The seeds.
    """
    from robust_nlp.scoring.run import load_scores

    measured = {
        name: [load_scores(run.path).measured[0] for run in each] for name, each in runs.items()
    }
    first = measured[CONTROL][0]
    layout = (first.examples, {name: list(curve) for name, curve in first.curves.items()})
    for name, each in measured.items():
        for seed, found in zip(seeds, each, strict=True):
            curves = {name: list(curve) for name, curve in found.curves.items()}
            if (found.examples, curves) != layout:
                raise typer.BadParameter(
                    f"{folder(name, seed)} was scored on other texts or rates than "
                    f"{folder(CONTROL, seeds[0])}; score all with the same --limit and --set"
                )
    values = {name: [per_text(found) for found in each] for name, each in measured.items()}
    shown = runs[CONTROL][0].manifest()
    return {
        "options": options(runs),
        "seeds": seeds,
        "texts": len(first.examples),
        "curves": layout[1],
        "model": shown["recipe"]["model"],
        "train": shown["recipe"]["train"]["args"],
        "versions": shown["versions"],
        "host": shown.get("host"),
        "rows": [entry(name, values, runs[name]) for name in runs],
    }


def options(runs: dict[str, list[Any]]) -> str:
    """Return how training was asked for otherwise than by default, as it is written."""
    from robust_nlp.recipe import recipe_to_dict

    usual = recipe_to_dict(recipe(CONTROL, 0, "DIR", PIECES, []))
    made = runs[CONTROL][0].manifest()["recipe"]
    said = "".join(
        f" --set {part}.{name}={json.dumps(value)}"
        for part, before, after in (
            ("model", usual["model"], made["model"]),
            ("train.args", usual["train"]["args"], made["train"]["args"]),
        )
        for name, value in after.items()
        if value != before.get(name)
    )
    copies = [each.manifest()["recipe"]["train"]["augmentation"] for (each, *_) in runs.values()]
    pieces = {
        augmenter["max_pieces"]
        for each in copies
        for augmenter in (each or {"augmenters": ()})["augmenters"]
        if "max_pieces" in augmenter
    }
    return said + "".join(f" --pieces {number}" for number in sorted(pieces - {PIECES}))


def per_text(measured: Any) -> dict[str, Any]:
    """Return the share of right answers of each text, by measure; shape `(texts,)` each."""
    from robust_nlp.scoring.measured import area

    found = {"clean": measured.clean.shares}
    for name, curve in measured.curves.items():
        for rate, cell in curve.items():
            found[f"{name} {rate:g}"] = cell.shares
        found[f"{name} score"] = measured.clean.shares - area(measured.clean, curve)
    return found


def entry(variant: str, values: dict[str, list[dict[str, Any]]], runs: list[Any]) -> dict[str, Any]:
    from robust_nlp.study.intervals import seed_interval, text_interval

    stages = [run.manifest()["stages"] for run in runs]
    row: dict[str, Any] = {
        "variant": variant,
        "augmentation": runs[0].manifest()["recipe"]["train"]["augmentation"],
        "training_seconds": float(np.mean([stage["train"]["seconds"] for stage in stages])),
        "steps": stages[0]["train"]["steps"],
        "measures": {},
    }
    for measure in values[variant][0]:
        found = np.array([each[measure] for each in values[variant]])  # seeds, texts
        difference = found - np.array([each[measure] for each in values[CONTROL]])
        row["measures"][measure] = {
            "mean": float(found.mean()),
            "by_seed": found.mean(axis=1).tolist(),
            "difference": float(difference.mean()),
            "interval_seeds": seed_interval(difference.mean(axis=1).tolist()),
            "interval_texts": text_interval([difference.mean(axis=0)], seed=0),
        }
    return row


def markdown(facts: dict[str, Any]) -> str:
    curves, rows, model = facts["curves"], facts["rows"], facts["model"]
    frozen = model["freeze"]
    short = {name: "random" if "random" in name else "important" for name in curves}
    shown = {"clean": "clean"}
    for name, rates in curves.items():
        shown |= {f"{name} {rate:g}": f"{short[name]} {100 * rate:.0f} %" for rate in rates}
    columns = list(shown)
    lines = [
        "# SST-2: accuracy when words are missing",
        "",
        f"`{model['base']}`, fine-tuned on the 6,920 sentences of the training file"
        + ("" if frozen is None else f", embeddings and {frozen} layers frozen")
        + f"; seeds {', '.join(map(str, facts['seeds']))}; settings "
        + ", ".join(f"{name} {value}" for name, value in facts["train"].items())
        + f". The first {facts['texts']} sentences of the test file.",
        "",
        "`plain` reads the texts as they are. The others read a copy of each besides, drawn anew "
        "in each epoch, in batches of twice the size, and so in as many steps: with 30 % of the "
        "words deleted at random (`random`) or by importance for the classifier in training "
        "(`important`), or a run of 30 to 100 % of the words (`lengths`); `both` draws one of the "
        "last two for each copy. They read twice as many texts as `plain`; `random` is the control "
        "for that.",
        "",
        "Words of test texts are deleted at random, or the most important ones first (by how much "
        "their absence lowers the classifier's margin for the right label), to the rate in the "
        "column.",
        "",
        "Accuracy in percent, mean over seeds:",
        "",
        "| variant | " + " | ".join(shown.values()) + " |",
        "|---|" + "--:|" * len(columns),
    ]
    for row in rows:
        cells = " | ".join(f"{100 * row['measures'][name]['mean']:.1f}" for name in columns)
        lines.append(f"| {row['variant']} | {cells} |")
    scores = {f"{name} score": f"{short[name]} score" for name in curves}
    lines += [
        "",
        "Robustness score: clean accuracy less the mean accuracy over rates from 0 to "
        f"{max(max(rates) for rates in curves.values()):g}, in points; lower is better.",
        "",
        "| variant | " + " | ".join(short.values()) + " | steps | training seconds |",
        "|---|" + "--:|" * (len(scores) + 2),
    ]
    for row in rows:
        cells = [f"{100 * row['measures'][name]['mean']:.1f}" for name in scores]
        cells += [str(row["steps"]), f"{row['training_seconds']:.0f}"]
        lines.append(f"| {row['variant']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Differences from `plain`, in points, with intervals at 95 %: over trainings with other "
        "seeds (Student's, paired by seed), and over other texts (bootstrap, paired by text).",
        "",
        "| variant | measure | difference | over seeds | over texts |",
        "|---|---|--:|--:|--:|",
    ]
    for row in rows:
        if row["variant"] != CONTROL:
            for name, said in (shown | scores).items():
                found = row["measures"][name]
                lines.append(
                    f"| {row['variant']} | {said} | {100 * found['difference']:+.1f} "
                    f"| {span(found['interval_seeds'])} | {span(found['interval_texts'])} |"
                )
    named = ", ".join(
        f"{name} {facts['versions'][name]}"
        for name in ("torch", "transformers", "numpy")
        if name in facts["versions"]
    )
    lines += [
        "",
        "; ".join(f"{name} {value}" for name, value in (facts["host"] or {}).items())
        + f"; {named}.",
        "",
        "```",
        f"python benchmarks/missing_words.py train --data DIR{facts['options']}",
        f"python benchmarks/missing_words.py score --data DIR{facts['options']}",
        "python benchmarks/missing_words.py table",
        "```",
        "",
    ]
    return "\n".join(lines)


def span(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}"


if __name__ == "__main__":
    app()
