"""Drive a comparison: train and measure what is missing, then compare what there is."""

from __future__ import annotations

import dataclasses
import gc
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_nlp import pipeline
from robust_nlp.attacks.drive import attack_recipe
from robust_nlp.attacks.recipes import plan_of
from robust_nlp.attacks.wording import FOLDER
from robust_nlp.augmentation.ledger import read_results
from robust_nlp.augmentation.textattack_import import textattack_version
from robust_nlp.compare.memory import peak_memory
from robust_nlp.compare.methods import (
    ATTACK,
    Limits,
    MethodRun,
    built_on,
    comparison_of,
    limits_of,
    method_runs,
    trained_first,
    wanted_methods,
)
from robust_nlp.compare.report import write_comparison
from robust_nlp.compare.results import Comparison, unfinished
from robust_nlp.compare.settings import MEASURINGS, Measuring
from robust_nlp.compare.sizes import FILE as SIZES
from robust_nlp.compare.sizes import PROBED, Probe, Sizes
from robust_nlp.compare.timing import note_memory, time_answers
from robust_nlp.data import Split, load_split
from robust_nlp.errors import MissingExtraError, RecipeError, RunMismatchError
from robust_nlp.recipe import Recipe
from robust_nlp.scoring.run import score_recipe
from robust_nlp.scoring.store import ScoreStore

logger = logging.getLogger(__name__)

#: What measures a method: from a recipe and a run directory.
_MEASURE: dict[Measuring, Callable[[Recipe, Path], Any]] = {
    "score": lambda recipe, path: score_recipe(recipe, path),
    "certify": lambda recipe, path: pipeline.certify(recipe, path),
    "attack": lambda recipe, path: attack_recipe(recipe, path),
}


def compare_methods(
    recipe: Recipe,
    output: str | Path,
    *,
    only: Sequence[str] = (),
    budget: float | None = None,
    fresh: bool = False,
) -> str:
    """Train the methods of a recipe, measure all of them alike, and compare.

    Each method is an ordinary run directory in the folder of the comparison. What is there is kept;
    an interrupted comparison goes on; methods may be added. Under `torchrun` or `accelerate
    launch`, the processes share each stage. The report is written at the end, of what there is by
    then.

    Args:
        recipe: The recipe with its comparison.
        output: Folder of the comparison.
        only: Methods that are trained and measured now; empty for all.
        budget: Minutes for all measuring, in place of the recipe's own; see `CompareRecipe`.
        fresh: Whether to delete the runs of these methods first, and of those built on them.

    Returns:
        The report for the terminal; empty in processes other than the first.

    Raises:
        RunMismatchError: If runs of these methods were made with other settings or from other
            data or weights.
        RobustNLPError: If data or a model cannot be used.
    """
    comparison, output = comparison_of(recipe), Path(output)
    if budget is not None:
        comparison = dataclasses.replace(comparison, budget=budget)
        recipe = dataclasses.replace(recipe, compare=comparison)
    if recipe.data.label is None:
        raise RecipeError("a comparison needs labels: say with data.label which column holds them")
    wanted = wanted_methods(comparison, only)
    stages, left_out = _stages(recipe)
    _check_training(recipe, wanted)
    split = load_split(recipe.data, recipe.certify.split)
    driver = _Driver(
        recipe=recipe,
        output=output,
        runs={run.name: run for run in method_runs(recipe, output)},
        stages=stages,
        split=split,
        state=pipeline.processes(recipe),
    )
    if fresh:
        driver.delete(built_on(comparison, wanted))
    for name in trained_first(comparison, wanted):
        driver.train(driver.runs[name])
    sizes = driver.sizes(wanted)
    for stage in stages:
        for name in wanted:
            driver.measure(stage, driver.runs[name], sizes.texts)
    for name in wanted:
        driver.time(driver.runs[name])
    if not driver.state.is_main_process:
        return ""
    found = Comparison.load(
        recipe, list(driver.runs.values()), split, sizes, left_out, driver.state.num_processes
    )
    return write_comparison(found, output)


@dataclass(frozen=True, kw_only=True)
class _Driver:
    """What all methods of a comparison have in common."""

    recipe: Recipe
    output: Path
    runs: dict[str, MethodRun]
    stages: Sequence[Measuring]
    split: Split
    state: Any

    @property
    def device(self) -> str:
        return self.recipe.model.device or str(self.state.device)

    def delete(self, names: Sequence[str]) -> None:
        self.state.wait_for_everyone()
        if self.state.is_main_process:
            for name in names:
                shutil.rmtree(self.runs[name].path, ignore_errors=True)
            if len(names) == len(self.runs):
                (self.output / SIZES).unlink(missing_ok=True)
        self.state.wait_for_everyone()

    def train(self, run: MethodRun) -> None:
        """Train classifier and denoiser of a method, where it has any and they are not there."""
        if run.trains:
            new = not run.directory.trained
            if new:
                logger.info("train: %s", run.name)
            self._watched(run, "train", lambda: pipeline.train(run.recipe, run.path), new=new)
        if run.trains_denoiser:
            new = not run.directory.denoiser_trained
            self._watched(
                run,
                "train_denoiser",
                lambda: pipeline.train_denoiser(run.recipe, run.path),
                new=new,
            )

    def sizes(self, wanted: Sequence[str]) -> Sizes:
        """Return how many texts each stage measures; with a budget, try out what is not yet."""
        from accelerate.utils import broadcast_object_list

        whole, limits = len(self.split), limits_of(self.recipe)
        most = {stage: min(whole, limits[stage] or whole) for stage in self.stages}
        budget = comparison_of(self.recipe).budget
        box: list[Any] = [Sizes.load(self.output, budget, most)]
        broadcast_object_list(box)
        sizes: Sizes = box[0]
        if sizes.texts:
            return sizes
        if budget is not None:
            for stage in self.stages:
                for name in wanted:
                    self._probe(stage, self.runs[name], sizes)
        if self.state.is_main_process:
            measured: dict[Measuring, list[str]] = {
                stage: [name for name, run in self.runs.items() if run.measures(stage)]
                for stage in self.stages
            }
            sizes.choose(measured, processes=self.state.num_processes)
            sizes.save(self.output)
        box = [sizes]
        broadcast_object_list(box)
        return box[0]  # type: ignore[no-any-return]

    def measure(self, stage: Measuring, run: MethodRun, limits: Limits) -> None:
        """Do one stage of one method for so many texts; what is there is kept."""
        if not run.measures(stage):
            return
        recipe, size = run.limited(limits), limits[stage]
        new = size is None or unfinished(run, stage, size) is not None
        if new:
            logger.info("%s: %s", stage, run.name)
        self._watched(run, stage, lambda: _MEASURE[stage](recipe, run.path), new=new)

    def time(self, run: MethodRun) -> None:
        """Measure the time of answers, in one process while the others wait."""
        if self.state.is_main_process:
            texts = self.split.texts[: comparison_of(self.recipe).timed]
            time_answers(run, texts, device=self.device)
        self.state.wait_for_everyone()

    def _probe(self, stage: Measuring, run: MethodRun, sizes: Sizes) -> None:
        known = sizes.probes.setdefault(run.name, {})
        if stage in known or not run.measures(stage):
            return
        self.measure(stage, run, {stage: min(PROBED, sizes.most[stage])})
        if self.state.is_main_process:
            known[stage] = _spent(stage, run)
            sizes.save(self.output)

    def _watched(self, run: MethodRun, stage: str, work: Callable[[], Any], *, new: bool) -> None:
        with peak_memory(self.device) as peak:
            try:
                work()
            except RunMismatchError as error:
                raise RunMismatchError(
                    f"{run.name}: {error}\nIn a comparison, --fresh with --only {run.name} makes "
                    "it again; or give the changed method another name."
                ) from error
        self.state.wait_for_everyone()  # the first process writes last
        if new and self.state.is_main_process:
            note_memory(run, stage, peak.bytes)
        self.state.wait_for_everyone()
        if new:
            gc.collect()  # a Trainer refers to itself, and would keep its model


def _check_training(recipe: Recipe, wanted: Sequence[str]) -> None:
    """Raise RecipeError if methods are to be trained, and the files have nothing to train on."""
    files, split = recipe.data.files, recipe.train.train_split.partition("[")[0]
    trained = [
        name
        for name in trained_first(comparison_of(recipe), wanted)
        if recipe.method(name).certify.model is None
        and comparison_of(recipe).methods[name].model_of is None
    ]
    if files and split not in files and trained:
        raise RecipeError(
            f"a comparison trains the classifiers of its methods, here of {', '.join(trained)}, "
            f"and data.files has no {split!r}; it has {', '.join(files)}. Add the file; or name a "
            "classifier that is trained already, a folder or a name of the Hub, which is taken as "
            "it is: certify.model for all methods, or set: {certify.model: ...} for one"
        )


def _stages(recipe: Recipe) -> tuple[list[Measuring], dict[str, str]]:
    """Return the stages to do, and why others are left out.

    Raises:
        DataError: If an attack lacks something.
    """
    comparison = comparison_of(recipe)
    left_out: dict[str, str] = {}
    for stage in MEASURINGS:
        if stage not in comparison.stages:
            left_out[stage] = "compare.stages does not name it"
    if "attack" in comparison.stages:
        try:
            textattack_version()
        except MissingExtraError as error:
            left_out["attack"] = str(error)
            logger.info("attacks are left out: %s", error)
        else:
            settings = recipe.attack or ATTACK
            for name in settings.attacks:
                plan_of(name, settings.given)
    return [stage for stage in MEASURINGS if stage not in left_out], left_out


def _spent(stage: Measuring, run: MethodRun) -> Probe:
    """Return on how many texts a stage was tried out, and seconds of one process for that."""
    if stage == "certify":
        rows = run.directory.rows()
        return {"texts": len(rows), "seconds": sum(row["seconds"] for row in rows)}
    if stage == "score":
        done = ScoreStore(run.path).parts_done()
        seconds = run.directory.manifest()["stages"]["score"]["seconds"]
        return {"texts": sum(stop - start for start, stop in done), "seconds": seconds}
    found = read_results(run.path / FOLDER / run.reading / "rows").values()
    return {
        "texts": len({row["example_id"] for row in found}),
        "seconds": sum(row["seconds"] for row in found),
    }
