"""The command `robust-nlp`. Modules that need torch are imported by the commands that need them."""

from __future__ import annotations

import dataclasses
import logging
import shlex
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from robust_nlp.errors import RobustNLPError

if TYPE_CHECKING:
    from robust_nlp.advisor import Advice
    from robust_nlp.recipe import Recipe

T = TypeVar("T")

app = typer.Typer(
    name="robust-nlp",
    help="Train, certify and report the robustness of text classifiers, one recipe at a time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

resources = typer.Typer(
    help="Tables that attacks need, in a folder of our own.", no_args_is_help=True
)
app.add_typer(resources, name="resources")

RecipeFile = Annotated[Path, typer.Argument(help="YAML file of the experiment.", metavar="RECIPE")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Run directory (default: runs/<name>).")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="ENTRY=VALUE", help="Replace an entry of the recipe; repeatable."
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Delete what the run directory holds first.")]


@app.command()
def train(
    recipe: RecipeFile, output: Output = None, set_: Overrides = None, fresh: Fresh = False
) -> None:
    """Fine-tune the classifier of a recipe; an interrupted training goes on."""
    with _session(resumable=True):
        from robust_nlp import pipeline

        loaded, folder = _load(recipe, set_, output)
        run = pipeline.train(loaded, folder, fresh=fresh)
        same = "".join(f" --set {shlex.quote(entry)}" for entry in set_ or ())
        same += "" if output is None else f" --output {output}"
        _say(f"The classifier is in {run.model}. Go on with: robust-nlp certify {recipe}{same}")


@app.command()
def train_denoiser(
    recipe: RecipeFile, output: Output = None, set_: Overrides = None, fresh: Fresh = False
) -> None:
    """Train the denoiser of a recipe under its noise; an interrupted training goes on."""
    with _session(resumable=True):
        from robust_nlp import pipeline

        loaded, folder = _load(recipe, set_, output)
        run = pipeline.train_denoiser(loaded, folder, fresh=fresh)
        same = "".join(f" --set {shlex.quote(entry)}" for entry in set_ or ())
        same += "" if output is None else f" --output {output}"
        _say(f"The denoiser is in {run.denoiser}. Go on with: robust-nlp certify {recipe}{same}")


@app.command()
def certify(
    recipe: RecipeFile,
    output: Output = None,
    set_: Overrides = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Texts at most.")] = None,
    fresh: Fresh = False,
) -> None:
    """Certify a split; parts that are done are kept, and an interrupted run goes on."""
    with _session(resumable=True):
        from robust_nlp import pipeline

        loaded, folder = _load(recipe, set_, output)
        run = pipeline.certify(loaded, folder, limit=limit, fresh=fresh)
        _say(f"The certificates are in {run.path}. Go on with: robust-nlp report {run.path}")


@app.command()
def domains(
    recipe: RecipeFile,
    output: Output = None,
    set_: Overrides = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="VARIANT", help="Train this variant alone; repeatable."),
    ] = None,
    limit_runs: Annotated[
        int | None, typer.Option(min=0, help="Trainings at most; 0 only reports.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the runs of the variants first.")
    ] = False,
) -> None:
    """Hold out each domain in turn, for each variant and seed, and compare; it may be resumed."""
    with _session(resumable=True):
        from robust_nlp.study.drive import run_study

        loaded, folder = _load(recipe, set_, output)
        _say(run_study(loaded, folder, only=only or (), limit_runs=limit_runs, fresh=fresh))
        _say(f"The report is in {folder / 'study.md'}, all numbers in {folder / 'study.json'}.")


@app.command()
def compare(
    recipe: RecipeFile,
    output: Output = None,
    set_: Overrides = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD", help="Train and measure this method alone; repeatable."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", help="Time for all measuring; picks how many texts."),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", help="Delete the runs of the methods, and of those built on them, first."
        ),
    ] = False,
) -> None:
    """Train methods, measure all of them alike, and compare robustness and cost; resumable."""
    with _session(resumable=True):
        from robust_nlp.compare.drive import compare_methods

        loaded, folder = _load(recipe, set_, output)
        _say(compare_methods(loaded, folder, only=only or (), budget=budget, fresh=fresh))
        _say(
            f"The report is in {folder / 'report.html'} and {folder / 'compare.md'}, as tables in "
            f"compare.csv and compare.tex, all numbers in {folder / 'compare.json'}."
        )


@app.command()
def audit(
    run: Annotated[Path, typer.Argument(help="Run directory.", metavar="RUN")],
    limit: Annotated[int | None, typer.Option(min=1, help="Texts at most.")] = None,
    forwards: Annotated[int, typer.Option(help="Passes of the search per text, at most.")] = 4_000,
    candidates: Annotated[int, typer.Option(help="Texts tried per radius, at most.")] = 1_000,
    votes: Annotated[int, typer.Option(help="Votes of the search per candidate.")] = 24,
    judge_votes: Annotated[int, typer.Option(help="Votes of the judge per candidate.")] = 1_000,
    alpha: Annotated[
        float, typer.Option(help="Probability of calling any right certificate wrong.")
    ] = 1e-3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of candidates and noise.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the audit of the run first.")] = (
        False
    ),
) -> None:
    """Look for another answer inside the certified radii of a run; exit 1 if the audit fails."""
    with _session(resumable=True):
        from robust_nlp.audit.facts import listed
        from robust_nlp.audit.run import audit_run
        from robust_nlp.audit.settings import AuditSettings
        from robust_nlp.audit.wording import sentences, spoken
        from robust_nlp.results import RunDirectory

        settings = AuditSettings(
            forwards=forwards,
            candidates=candidates,
            votes=votes,
            judge_votes=judge_votes,
            alpha=alpha,
            seed=seed,
        )
        found = audit_run(run, settings, limit=limit, fresh=fresh)
        recipe, labels = RunDirectory(run).recipe(), RunDirectory(run).manifest()["labels"]
        unit, quoted = recipe.mechanism.unit, recipe.report.texts
        for each in listed(found, labels, unit, with_text=quoted):
            _say(spoken(each, unit, with_text=quoted))
        _say("\n".join(sentences(found)))
    if not found.passed:
        raise typer.Exit(1)


@app.command()
def score(
    recipe: RecipeFile,
    output: Output = None,
    set_: Overrides = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Texts at most.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the scores first.")] = False,
) -> None:
    """Measure how far accuracy falls when words are deleted, swapped, inserted or misspelt."""
    with _session(resumable=True):
        from accelerate import PartialState

        from robust_nlp.scoring.run import score_recipe, write_scores

        loaded, folder = _load(recipe, set_, output)
        run = score_recipe(loaded, folder, limit=limit, fresh=fresh)
        if PartialState().is_main_process:
            typer.echo(write_scores(run.path))
            typer.echo(f"All tables are in {run.path / 'score.md'}.")


@app.command()
def attack(
    recipe: RecipeFile,
    output: Output = None,
    set_: Overrides = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Texts at most.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the attacks first.")] = False,
) -> None:
    """Attack the classifiers of a recipe with TextAttack; an interrupted run goes on."""
    with _session(resumable=True):
        from accelerate import PartialState

        from robust_nlp.attacks.drive import attack_recipe
        from robust_nlp.attacks.wording import write_attacks

        loaded, folder = _load(recipe, set_, output)
        run = attack_recipe(loaded, folder, limit=limit, fresh=fresh)
        if PartialState().is_main_process:
            typer.echo(write_attacks(run.path))
            typer.echo(f"All tables are in {run.path / 'attacks.md'}.")


@app.command()
def report(
    run: Annotated[
        Path, typer.Argument(help="Run directory, or the folder of a comparison.", metavar="RUN")
    ],
    alpha: Annotated[
        float | None, typer.Option(help="Failure probability (default: the recipe's).")
    ] = None,
    radii: Annotated[
        str | None, typer.Option(help="Radii of the tables, such as 0,1,2,4 (default: all).")
    ] = None,
    html: Annotated[bool, typer.Option(help="Write report.html.")] = True,
) -> None:
    """Show what the certificates of a run say; no model is needed."""
    with _session():
        if (run / "compare.json").is_file():
            _page_of_comparison(run, alpha is not None or radii is not None or not html)
            return
        from robust_nlp.report import write_report

        chosen = _numbers(radii, int, "--radii") or None
        typer.echo(write_report(run, alpha=alpha, radii=chosen, html=html))
        if html:
            typer.echo(f"The report is in {run / 'report.html'}.")


def _page_of_comparison(folder: Path, with_options: bool) -> None:
    from robust_nlp.compare.report import write_page

    if with_options:
        raise RobustNLPError(
            f"{folder} is a comparison, whose page takes no options: report one of the methods in "
            "its folders with them, or compare again with another recipe"
        )
    typer.echo(f"The report is in {write_page(folder)}.")


@app.command()
def card(
    run: Annotated[Path, typer.Argument(help="Run directory.", metavar="RUN")],
    alpha: Annotated[
        float | None, typer.Option(help="Failure probability (default: the recipe's).")
    ] = None,
    radii: Annotated[
        str | None, typer.Option(help="Radii, such as 0,1,2,4 (default: all).")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write it into README.md, beside the model if any.")
    ] = False,
) -> None:
    """Show the model card of a run for the Hugging Face Hub, metadata included."""
    with _session():
        from robust_nlp.card import model_card, write_card

        chosen = _numbers(radii, int, "--radii") or None
        if write:
            typer.echo(f"The card is in {write_card(run, alpha=alpha, radii=chosen)}.")
        else:
            typer.echo(model_card(run, alpha=alpha, radii=chosen))


@app.command()
def validate(
    recipes: Annotated[list[Path], typer.Argument(help="Recipes.", metavar="RECIPE...")],
    set_: Overrides = None,
) -> None:
    """Look recipes over: entries, tokenizer, data, labels, attackers, dead zones."""
    found = 0
    for recipe in recipes:
        with _session():
            findings = _findings(recipe, set_)
        typer.echo(f"{recipe}: {'nothing found' if not findings else f'{len(findings)} found'}")
        for finding in findings:
            typer.echo(f"  - {finding}")
        found += len(findings)
    if found:
        raise typer.Exit(1)


@app.command()
def advise(
    recipe: RecipeFile,
    rates: Annotated[
        str | None,
        typer.Option(help="Deletion rates to compare, such as 0.7,0.8,0.9, with the recipe's."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split (default: certify.split).")] = None,
    set_: Overrides = None,
) -> None:
    """Say what noise can promise on the texts of a recipe, before any vote is cast."""
    with _session():
        from robust_nlp.advisor import advise as ask
        from robust_nlp.advisor import cautions
        from robust_nlp.data import load_split
        from robust_nlp.mechanisms import RandomizedDeletion
        from robust_nlp.threats import parse_attacker
        from robust_nlp.validation import unit_lists

        loaded, _ = _load(recipe, set_, None)
        data = dataclasses.replace(loaded.data, label=None)
        texts = load_split(data, split or loaded.certify.split).texts
        units = unit_lists(loaded, texts)
        unit = loaded.mechanism.unit
        others = [
            RandomizedDeletion(p_del=rate, unit=unit) for rate in _numbers(rates, float, "--rates")
        ]
        attackers = [parse_attacker(name) for name in loaded.certify.attackers]
        advice = {
            mechanism: ask(units, mechanism, attackers, loaded.certify.plan)
            for mechanism in (loaded.mechanism, *others)
        }
        _show(advice, unit)
        for caution in cautions(advice[loaded.mechanism]):
            typer.echo(f"Caution: {caution}.")


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the runs.")] = Path(
        "runs/quickstart"
    ),
    set_: Overrides = None,
) -> None:
    """Train, certify and compare two small classifiers without any network."""
    with _session(resumable=True):
        from robust_nlp import quickstart as story

        _say(story.run(output, set_ or ()))


@app.command()
def doctor(
    names: Annotated[
        list[str] | None, typer.Argument(help="Attacks (default: all).", metavar="ATTACK...")
    ] = None,
    stand_ins: Annotated[
        bool, typer.Option("--stand-ins", help="Count attacks that run with stand-ins as running.")
    ] = False,
    swaps: Annotated[str | None, typer.Option(help="Neighbour file.")] = None,
    masked_lm: Annotated[
        str | None, typer.Option(help="Folder of a masked language model.")
    ] = None,
) -> None:
    """Say what each attack lacks, and what brings it; exit 1 if one that was named cannot run."""
    with _session():
        from robust_nlp.attacks.doctor import diagnose, obstacle, report
        from robust_nlp.attacks.needs import Given

        found = diagnose(names or (), Given(swaps=swaps, masked_lm=masked_lm))
        typer.echo(report(found))
        well = obstacle() is None and all(
            each.runs or (stand_ins and each.runs_helped) for each in found
        )
    if names and not well:
        raise typer.Exit(1)


@resources.command()
def install(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="stopwords, tagger, tagset, wordnet, homoglyphs, neighbours (default: all).",
            metavar="NAME...",
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Folder to take them from, without a network.")
    ] = None,
) -> None:
    """Install what attacks need, by download or from a folder; exit 1 if none could be.

    The same holds if one that was named could not.
    """
    with _session():
        from robust_nlp.attacks.installing import install as bring

        done = bring(names or (), source)
        for each in done:
            typer.echo(f"{each.name}: {each.said}")
    there = [each.there for each in done]
    if not (all(there) if names else any(there)):
        raise typer.Exit(1)


@app.command()
def env() -> None:
    """Show versions, device and extras, to paste into an issue."""
    import torch

    from robust_nlp import environment

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    for name, version in environment.versions().items():
        typer.echo(f"{name}: {version}")
    for name, value in environment.host(environment.device_name(device)).items():
        typer.echo(f"{name}: {value}")
    for extra, installed in environment.extras().items():
        typer.echo(f"extra {extra}: {'installed' if installed else 'not installed'}")


@contextmanager
def _session(resumable: bool = False) -> Iterator[None]:
    """Show logs, warnings and errors of settings as lines, without tracebacks."""
    log = logging.getLogger("robust_nlp")
    handler = logging.StreamHandler()
    level, log_warning = log.level, warnings.showwarning
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    warnings.showwarning = _show_warning
    try:
        yield
    except KeyboardInterrupt:
        resume = " Give the same command again to go on; what is finished is kept."
        typer.echo(f"Interrupted.{resume if resumable else ''}", err=True)
        raise typer.Exit(130) from None
    except (RobustNLPError, ValueError) as error:
        if not _is_about_settings(error):
            raise
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from None
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        warnings.showwarning = log_warning


def _say(message: str) -> None:
    """Write a line, once for all processes of a launch."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        typer.echo(message)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    typer.echo(f"Warning: {message}", err=True)


def _is_about_settings(error: Exception) -> bool:
    """Tell errors that this package raised from those that other packages raised under it."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    module = str(frame.f_globals.get("__name__", ""))
    return isinstance(error, RobustNLPError) or module.split(".")[0] == "robust_nlp"


def _load(recipe: Path, overrides: list[str] | None, output: Path | None) -> tuple[Recipe, Path]:
    from robust_nlp.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    return loaded, Path("runs", loaded.name) if output is None else output


def _findings(recipe: Path, overrides: list[str] | None) -> list[str]:
    from robust_nlp.validation import validate as look_over

    try:
        return look_over(*_load(recipe, overrides, None))
    except RobustNLPError as error:
        return [str(error)]


def _numbers(text: str | None, kind: Callable[[str], T], option: str) -> list[T]:
    try:
        return [] if text is None else [kind(number) for number in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"{option} takes numbers with commas between them; got {text!r}"
        ) from error


def _show(advice: Mapping[Any, Advice], unit: str) -> None:
    """Print a table with one column a mechanism."""
    from rich.console import Console
    from rich.table import Table

    first = next(iter(advice.values()))
    table = Table(title=f"What noise can promise on {first.texts:,} texts")
    table.add_column("")
    for mechanism in advice:
        rate = getattr(mechanism, "p_del", None)
        table.add_column(mechanism.kind if rate is None else f"p_del {rate:g}", justify="right")

    def row(name: str, values: Iterable[str]) -> None:
        table.add_row(name, *values)

    each = list(advice.values())
    for attacker in first.ceilings:
        row(f"largest radius, {attacker}", (str(a.ceilings[attacker]) for a in each))
    row("texts in the dead zone", (f"{a.dead_zone:.1%}" for a in each))
    row("texts decided exactly", (f"{a.exact:.1%}" for a in each))
    row(f"{unit}s kept per vote", (f"{a.kept_units:.1f}" for a in each))
    row("tokens read per text, at most", (f"{a.tokens:,.0f}" for a in each))
    Console().print(table)
