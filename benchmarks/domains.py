"""Which training holds up in domains that it never saw: reviews-7 and FDU-MTL.

    python benchmarks/domains.py run   reviews7 --data DIR [--small] [--limit-runs 20]
    python benchmarks/domains.py run   fdu-mtl  --data DIR [--small]
    python benchmarks/domains.py table reviews7 [--small]   # benchmarks/results/domains_*.{md,json}
    python benchmarks/domains.py pack  reviews7 [--small]   # benchmarks/results/domains_*.tar.xz
    python benchmarks/domains.py unpack reviews7 --data DIR [--small]

`run` resumes where it stopped, and trains all variants for all held-out domains before it goes on
to the next seed. `--small` is what two CPU cores can do: 32 tokens of each text, the upper two of
six layers trained, 50 steps, 100 test texts of the held-out domain. DIR holds
{train,validation,test}.jsonl.gz with `text`, `label` and `domain`. `pack` keeps the answers of all
runs, text by text, without texts and models: after `unpack`, `run` goes on with them, on any
machine, and makes the report anew (`--limit-runs 0`).
"""

from __future__ import annotations

import io
import json
import shlex
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

ROOT = Path(__file__).parent
RECIPE = ROOT.parent / "recipes" / "train" / "reviews7.yaml"
RUNS = Path("runs/domains")
RESULTS = ROOT / "results"

#: Overrides of recipes/train/reviews7.yaml by data set.
DATA = {
    "reviews7": [],
    # Of the fifteen domains that are left, each batch has six.
    "fdu-mtl": [
        "study.hold_out=[apparel, health_personal_care, magazines, music]",
        "train.domains.domains_per_batch=6",
    ],
}
SMALL = [
    "model.device=cpu",
    "model.freeze=4",
    "model.max_length=32",
    "train.args.max_steps=50",
    "train.args.learning_rate=2e-4",
    "train.selection_limit=200",
    "study.limit=100",
    "study.draws=3",
    "study.certify=20",
    "mechanism.p_del=0.9",
    "certify.plan.max_votes=200",
]
#: An average of nearly all of 50 steps would be one of classifiers that have not learnt yet.
FEW_STEPS = {"fishr_averaged": {"train.averaging": {"kind": "ema", "decay": 0.9}}}
#: With TextAttack installed.
ATTACK = ["study.attack={recipe: deepwordbug, limit: 10}"]

app = typer.Typer(add_completion=False)

Name = Annotated[str, typer.Argument(help="reviews7 or fdu-mtl.")]
Small = Annotated[bool, typer.Option("--small", help="What two CPU cores can do.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Entries of the recipe.")]


def folder(name: str, small: bool) -> Path:
    return RUNS / (f"{name}-small" if small else name)


def recipe(name: str, small: bool, data: str, extra: list[str]) -> Any:
    from robust_nlp.recipe import load_recipe

    files = [f"data.files.{s}={data}/{s}.jsonl.gz" for s in ("train", "validation", "test")]
    overrides = [*DATA[name], *(SMALL if small else ()), *files, *extra]
    loaded = load_recipe(RECIPE, [f"name={name}", *overrides])
    assert loaded.study is not None
    variants = {
        variant: {**changes, **(FEW_STEPS.get(variant, {}) if small else {})}
        for variant, changes in loaded.study.variants.items()
    }
    return replace(loaded, study=replace(loaded.study, variants=variants))


@app.command()
def run(
    name: Name,
    data: Annotated[str, typer.Option(help="Folder of the data set.")],
    small: Small = False,
    only: Annotated[list[str] | None, typer.Option(help="Variants.")] = None,
    limit_runs: Annotated[int | None, typer.Option(help="Trainings at most.")] = None,
    attack: Annotated[bool, typer.Option("--attack", help="Run DeepWordBug, too.")] = False,
    set_: Set = None,
) -> None:
    """Train and measure what is missing."""
    from robust_nlp.study.drive import run_study

    extra = [*(ATTACK if attack else ()), *(set_ or ())]
    loaded = recipe(name, small, data, extra)
    typer.echo(run_study(loaded, folder(name, small), only=only or (), limit_runs=limit_runs))


#: What `run` needs of a run that is measured.
KEPT = ("answers.parquet", "measured.json", "manifest.json", "recipe.yaml", "model/*.json")


@app.command()
def pack(name: Name, small: Small = False) -> None:
    """Put the answers of all measured runs into one archive, without paths of the machine."""
    source = folder(name, small)
    runs = sorted(path.parent for path in source.glob("*/*/*/measured.json"))
    with tarfile.open(archive(source), "w:xz") as packed:
        for path in (path for run in runs for kind in KEPT for path in sorted(run.glob(kind))):
            content = path.read_bytes()
            if path.name == "manifest.json":
                manifest = json.loads(content)
                program, *arguments = shlex.split(manifest["command"])
                manifest["command"] = shlex.join([Path(program).name, *arguments])
                content = json.dumps(manifest, indent=2).encode()
            if path.name in ("manifest.json", "recipe.yaml"):
                used = yaml.safe_load((path.parent / "recipe.yaml").read_text(encoding="utf-8"))
                data = str(Path(used["data"]["files"]["train"]).parent)
                content = content.replace(data.encode(), b"DIR")
            entry = tarfile.TarInfo(str(path.relative_to(source)))
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    typer.echo(f"{len(runs)} runs are in {archive(source)}")


@app.command()
def unpack(
    name: Name,
    data: Annotated[str, typer.Option(help="Folder of the data set.")],
    small: Small = False,
) -> None:
    """Take runs from the archive that are not there yet."""
    target = folder(name, small)
    with tarfile.open(archive(target)) as packed:
        for entry in packed:
            path, content = target / entry.name, packed.extractfile(entry)
            if content is None or path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            text = path.name in ("manifest.json", "recipe.yaml")
            read = content.read()
            path.write_bytes(read.replace(b"DIR", data.encode()) if text else read)


def archive(runs: Path) -> Path:
    return RESULTS / f"domains_{runs.name}.tar.xz"


@app.command()
def table(name: Name, small: Small = False) -> None:
    """Put the report of a study among the results, as it is now, without paths of the machine."""
    source = folder(name, small)
    data = json.loads((source / "study.json").read_text(encoding="utf-8"))["recipe"]["data"]
    for suffix in ("md", "json"):
        text = (source / f"study.{suffix}").read_text(encoding="utf-8")
        text = text.replace(str(Path(data["files"]["train"]).parent), "DIR")
        (RESULTS / f"domains_{source.name}.{suffix}").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    app()
