"""Drive a study: train and measure what is missing, then report."""

from __future__ import annotations

import gc
import logging
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_nlp import pipeline
from robust_nlp.augmentation.textattack_import import textattack_version
from robust_nlp.data import Split, load_split
from robust_nlp.errors import RecipeError, RobustNLPWarning, RunMismatchError, did_you_mean
from robust_nlp.recipe import Recipe
from robust_nlp.study.measure import measure, write_texts
from robust_nlp.study.measured import MeasuredRun, State, measuring, refusal
from robust_nlp.study.passes import training_passes
from robust_nlp.study.report import write_study
from robust_nlp.study.results import StudyResults, radii_of
from robust_nlp.study.runs import StudyRun, held_out_domains, study_of, study_runs
from robust_nlp.study.texts import DomainTexts, choose_texts
from robust_nlp.study.values import run_measures, seen_accuracies

logger = logging.getLogger(__name__)

#: What is kept of how a training went.
TRAINING = ("seconds", "steps", "resumed_at", "processes", "metric", "best", "best_step")


def run_study(
    recipe: Recipe,
    output: str | Path,
    *,
    only: Sequence[str] = (),
    limit_runs: int | None = None,
    fresh: bool = False,
) -> str:
    """Train with each domain held out, for each variant and seed, measure, and compare.

    Each training is an ordinary run directory, `<variant>/<domain>/seed-<seed>` in the folder of
    the study. What is measured is kept; an interrupted study goes on; variants, seeds and domains
    may be added. Under `torchrun` or `accelerate launch`, the processes share each training. The
    report is written at the end, of what there is by then.

    Args:
        recipe: The recipe with its study.
        output: Folder of the study.
        only: Variants that are trained and measured now; empty for all.
        limit_runs: Runs that are trained and measured now at most; 0 only reports.
        fresh: Whether to delete the runs of these variants first.

    Returns:
        The report for the terminal; empty in processes other than the first.

    Raises:
        RunMismatchError: If runs of these variants were made with other settings or from other
            data.
        RobustNLPError: If data or model cannot be used.
    """
    from accelerate import PartialState
    from accelerate.utils import tqdm

    study, output = study_of(recipe), Path(output)
    for name in only:
        if name not in study.variants:
            raise RecipeError(
                f"the study has no variant {name!r}; it has {', '.join(study.variants)}."
                f"{did_you_mean(name, study.variants)}"
            )
    if study.attack is not None:
        textattack_version()  # before anything is trained for it
    state = PartialState(cpu=recipe.model.device == "cpu", timeout=pipeline.PATIENCE)
    train = load_split(recipe.data, recipe.train.train_split)
    test = load_split(recipe.data, recipe.certify.split, label_names=train.label_names)
    domains = held_out_domains(recipe, train)
    runs = study_runs(recipe, output, domains)
    driver = _Driver(recipe, output, test, _chosen_texts(recipe, runs, test), state)
    wanted = [run for run in runs if not only or run.variant in only]
    if fresh:
        driver.delete(wanted)
    if state.is_main_process:
        _warn_of_repeats(driver.chosen, drop=study.drop_repeats)
    plans = [driver.plan(run) for run in runs]
    errors = {plan.run.name: plan.error for plan in plans if plan.error is not None}
    refused = {run.name: errors[run.name] for run in wanted if run.name in errors}
    if refused:
        raise refusal(refused)
    mine = [plan for plan in plans if not only or plan.run.variant in only]
    todo = [plan for plan in mine if plan.state != "measured"][:limit_runs]
    state.wait_for_everyone()  # all have looked before anything is written
    n_done = sum(plan.state == "measured" for plan in mine)
    with tqdm(total=n_done + len(todo), initial=n_done, desc="study", unit="run") as bar:
        for plan in todo:
            driver.make(plan)
            bar.update()
    if not state.is_main_process:
        return ""
    made = {plan.run.path for plan in todo}
    results = StudyResults.load(
        recipe,
        domains,
        [MeasuredRun(p.run) for p in plans if p.state == "measured" or p.run.path in made],
        planned=len(runs),
        left_out=len(errors),
    )
    return write_study(results, output)


@dataclass(frozen=True)
class _Plan:
    """A run, and what there is of it.

    Attributes:
        run: The run.
        state: See `MeasuredRun.state`.
        again: Whether it was measured before, in another way.
        error: Why what there is cannot be used.
    """

    run: StudyRun
    state: State
    again: bool = False
    error: RunMismatchError | None = None


@dataclass(frozen=True)
class _Driver:
    """What all runs of a study have in common."""

    recipe: Recipe
    output: Path
    test: Split
    chosen: Mapping[str, DomainTexts]
    state: Any

    def delete(self, runs: Sequence[StudyRun]) -> None:
        self.state.wait_for_everyone()
        if self.state.is_main_process:
            for run in runs:
                shutil.rmtree(run.path, ignore_errors=True)
        self.state.wait_for_everyone()

    def plan(self, run: StudyRun) -> _Plan:
        files = MeasuredRun(run)
        try:
            state = files.state(measuring(self.recipe, run), self._contents(run))
        except RunMismatchError as error:
            return _Plan(run, "open", error=error)
        return _Plan(run, state, again=state == "trained" and files.numbers() is not None)

    def make(self, plan: _Plan) -> None:
        """Train and measure a run; call it in all processes."""
        run, state, files = plan.run, self.state, MeasuredRun(plan.run)
        logger.info("%s: %s", "training" if plan.state == "open" else "measuring", run.name)
        self._train(run, files)
        chosen = self.chosen[run.texts]
        texts_file = self.output / "texts" / f"{run.texts}.jsonl"
        if state.is_main_process:
            write_texts(texts_file, self.recipe, self.test, chosen.held_out)
        state.wait_for_everyone()
        answers = measure(self.recipe, run, self.test, chosen, state, texts_file, again=plan.again)
        if state.is_main_process:
            files.write(answers, self._numbers(run, files, answers))
            if not study_of(self.recipe).keep_models:
                files.drop_model()
        state.wait_for_everyone()
        gc.collect()  # a Trainer refers to itself, and would keep its model

    def _train(self, run: StudyRun, files: MeasuredRun) -> None:
        if files.directory.trained and not files.has_weights:
            self.delete([run])
        with training_passes() as passes:
            pipeline.train(run.recipe, run.path)
        if self.state.is_main_process and passes.count:
            resumed = files.directory.manifest()["stages"]["train"]["resumed_at"]
            read = {"passes": passes.count, "texts_read": passes.texts}
            files.directory.update_manifest(read=None if resumed else read)
        self.state.wait_for_everyone()

    def _numbers(
        self, run: StudyRun, files: MeasuredRun, answers: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        chosen, manifest = self.chosen[run.texts], files.directory.manifest()
        stage = manifest["stages"]["train"]
        return {
            "variant": run.variant,
            "held_out": run.held_out,
            "seed": run.seed,
            "settings": measuring(self.recipe, run),
            "data": self._contents(run),
            "repeats": dict(chosen.repeats),
            "texts": {
                "held_out": len(chosen.held_out),
                "seen": {name: len(rows) for name, rows in chosen.seen.items()},
            },
            "measures": run_measures(answers, radii_of(self.recipe)),
            "seen_accuracies": seen_accuracies(answers),
            "attacks": _attacks(answers),
            "training": {
                **{name: stage[name] for name in TRAINING},
                **(manifest.get("read") or {"passes": None, "texts_read": None}),
            },
        }

    def _contents(self, run: StudyRun) -> dict[str, str]:
        """Return hashes of all that a run is made from."""
        read = run.recipe.mechanism.contents()
        hashes = {name: content["content_hash"] for name, content in read.items()}
        return {**self.chosen[run.texts].data, **hashes}


def _chosen_texts(recipe: Recipe, runs: Sequence[StudyRun], test: Split) -> dict[str, DomainTexts]:
    """Choose the test texts for runs that read the same; all variants do."""
    chosen: dict[str, DomainTexts] = {}
    for run in runs:
        if run.texts not in chosen:
            train, validation = pipeline.training_splits(run.recipe)
            chosen[run.texts] = choose_texts(
                study_of(recipe), run.held_out, test, train, validation, seed=recipe.seed
            )
    return chosen


def _warn_of_repeats(chosen: Mapping[str, DomainTexts], *, drop: bool) -> None:
    found = {name: texts.repeats["held_out"] for name, texts in chosen.items()}
    if any(found.values()):
        each = ", ".join(f"{number:,} of {name}" for name, number in found.items() if number)
        warnings.warn(
            "test texts of held-out domains occur in training or validation as well, case and "
            f"punctuation aside ({each}); "
            + ("they are left out" if drop else "study.drop_repeats would leave them out"),
            RobustNLPWarning,
            stacklevel=3,
        )


def _attacks(answers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count attacks by how they ended, and their questions to the classifier."""
    outcomes = [answer["attack"] for answer in answers if answer["attack"] is not None]
    counts = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
    queries = sum(answer["queries"] for answer in answers if answer["queries"] is not None)
    return {**counts, "queries": queries} if outcomes else {}
