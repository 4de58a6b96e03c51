"""Which method, at what cost: SST-2, AG News and FDU-MTL, by the recipes in recipes/compare/.

    python benchmarks/compare.py run   sst2 --data DIR [--swaps FILE] [--small] [--budget 60]
    python benchmarks/compare.py table sst2      # benchmarks/results/compare_sst2.{md,json}

`run` resumes where it stopped; `--only METHOD` trains and measures one method alone. DIR holds
{train,validation,test}.jsonl.gz (AG News: no validation); FILE allowed swaps (JSON, word -> list of
words; .gz) for Gaussian noise, which is left out without. `--small` is what two CPU cores can do:
texts cut to 64 tokens, few steps of training, in bfloat16, and no denoiser on AG News. Attacks need
TextAttack, and NLTK's data where NLTK_DATA says.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).parent
RECIPES = ROOT.parent / "recipes" / "compare"
RUNS = Path("runs/compare")
RESULTS = ROOT / "results"

#: Splits that are files of their own.
SPLITS = {
    "sst2": ("train", "validation", "test"),
    "agnews": ("train", "test"),
    "fdu-mtl": ("train", "validation", "test"),
}
SMALL = [
    "model.device=cpu",
    "model.dtype=bfloat16",
    "model.max_length=64",
    "train.args.bf16=true",
    "train.args.max_steps=160",
    "train.args.eval_steps=40",
    "train.args.save_steps=40",
    "train.selection_limit=100",
    "certify.plan.max_votes=300",
    "score.perturbations=[{kind: delete_words, rates: [0.2, 0.4]},"
    " {kind: delete_words, order: most_important, rates: [0.2, 0.4]}]",
    "attack.search_votes=16",
    "attack.judge_votes=400",
    "attack.check_examples=8",
]
DENOISER = "compare.methods.denoised.set.denoiser.train.args"
#: Answers that are scored rest on fewer votes, and abstain more often.
FEW_VOTES = "score.plan={kind: sequential, alpha: 0.05, max_votes: 200}"
#: And what else, by data set. FDU-MTL asks for domains: many texts under few perturbations.
SMALL_OF = {
    "sst2": [f"{DENOISER}.bf16=true", f"{DENOISER}.max_steps=320"],
    "agnews": [FEW_VOTES],
    "fdu-mtl": [
        "score.perturbations=[{kind: delete_words, rates: [0.3]},"
        " {kind: delete_words, order: most_important, importance: gradient_x_embedding,"
        " rates: [0.3]}]",
        FEW_VOTES,
        "certify.limit=100",
        "attack.limit=20",
    ],
}
#: A denoiser takes minutes for one attack on one text of AG News; on SST-2 it is compared.
LEFT_OUT = {"agnews": ["denoised"]}
#: Gaussian noise comes with a new table of embeddings, which the classifier learns to read first.
GAUSSIAN_STEPS = 480

app = typer.Typer(add_completion=False)

Name = Annotated[str, typer.Argument(help="sst2, agnews or fdu-mtl.")]


def recipe(name: str, data: str, swaps: str | None, small: bool, extra: list[str]) -> Any:
    from robust_nlp.recipe import load_recipe

    overrides = [f"data.files.{split}={data}/{split}.jsonl.gz" for split in SPLITS[name]]
    if swaps is not None and name == "sst2":
        overrides.append(f"compare.methods.gaussian.set.mechanism.swaps={swaps}")
    if small:
        overrides += [*SMALL, *SMALL_OF[name]]
    loaded = load_recipe(RECIPES / f"{name}.yaml", [*overrides, *extra])
    assert loaded.compare is not None
    methods = dict(loaded.compare.methods)
    for method in LEFT_OUT.get(name, ()) if small else ():
        del methods[method]
    if swaps is None:
        methods.pop("gaussian", None)
    elif small and "gaussian" in methods:
        entries = {**methods["gaussian"].set, "train.args.max_steps": GAUSSIAN_STEPS}
        methods["gaussian"] = replace(methods["gaussian"], set=entries)
    return replace(loaded, compare=replace(loaded.compare, methods=methods))


@app.command()
def run(
    name: Name,
    data: Annotated[str, typer.Option(help="Folder of the data set.")],
    swaps: Annotated[str | None, typer.Option(help="Allowed swaps.")] = None,
    small: Annotated[bool, typer.Option("--small", help="What two CPU cores can do.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Methods.")] = None,
    budget: Annotated[float | None, typer.Option(help="Minutes for all measuring.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Entries of the recipe.")] = None,
) -> None:
    """Train and measure what is missing."""
    from robust_nlp.compare.drive import compare_methods

    loaded = recipe(name, data, swaps, small, set_ or [])
    typer.echo(compare_methods(loaded, RUNS / name, only=only or (), budget=budget))


@app.command()
def table(name: Name) -> None:
    """Put the report of a comparison among the results, as it is now, without paths and texts."""
    facts = json.loads((RUNS / name / "compare.json").read_text(encoding="utf-8"))
    text = (RUNS / name / "compare.md").read_text(encoding="utf-8")
    (RESULTS / f"compare_{name}.md").write_text(anonymous(text, facts), encoding="utf-8")
    facts["methods"] = [shown(method) for method in facts["methods"]]
    kept = {key: value for key, value in facts.items() if key not in QUOTING}
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    (RESULTS / f"compare_{name}.json").write_text(anonymous(text, facts) + "\n", encoding="utf-8")


#: What of compare.json quotes texts, or follows from the rest.
QUOTING = ("examples", "sandwiches", "lengths", "contradictions")


def shown(method: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a method without the parts of its own report and quoted texts."""
    scores = [
        {**{k: score[k] for k in ("perturbation", "area", "mean_score")}, "points": score["points"]}
        for score in method["scores"]
    ]
    report = method["report"] and {k: method["report"][k] for k in ("alpha", "summary", "counts")}
    attacks = method["attacks"] and {k: v for k, v in method["attacks"].items() if k != "examples"}
    return {**method, "scores": scores, "report": report, "attacks": attacks}


def anonymous(text: str, facts: dict[str, Any]) -> str:
    """Put DIR and FILE in the place of folders and files of the machine."""
    for file in facts["recipe"]["data"]["files"].values():
        text = text.replace(str(Path(file).parent), "DIR")
    gaussian = facts["recipe"]["compare"]["methods"].get("gaussian")
    if gaussian is not None:
        text = text.replace(gaussian["set"]["mechanism"]["swaps"], "FILE")
    return text


if __name__ == "__main__":
    app()
