"""What is kept of a measured run: its answers text by text, and all numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow
from pyarrow import parquet

from robust_nlp.errors import DataError, RunMismatchError
from robust_nlp.files import write_whole
from robust_nlp.recipe import Recipe
from robust_nlp.results import RunDirectory
from robust_nlp.settings import plain
from robust_nlp.study.runs import StudyRun, study_of

#: Version of the layout of measured.json and answers.parquet.
SCHEMA = 1

#: Columns of answers.parquet: what a classifier made of each test text. `row` is the place of the
#: text in the test split. `smoothed_answer` is null where the smoothed classifier abstains, or the
#: text is not `certified`; `attack` is how the attack ended, null where there was none.
ANSWERS = pyarrow.schema(
    [
        ("row", pyarrow.int64()),
        ("text_hash", pyarrow.string()),
        ("domain", pyarrow.string()),
        ("held_out", pyarrow.bool_()),
        ("label", pyarrow.int64()),
        ("answer", pyarrow.int64()),
        ("deleted_answers", pyarrow.list_(pyarrow.int64())),
        ("certified", pyarrow.bool_()),
        ("smoothed_answer", pyarrow.int64()),
        ("radius", pyarrow.int64()),
        ("attack", pyarrow.string()),
        ("queries", pyarrow.int64()),
    ]
)

#: "measured": its numbers are there; "trained": its model is; "open": neither.
State = Literal["measured", "trained", "open"]


class MeasuredRun:
    """The files of one run of a study, beside those of its training.

    Args:
        run: The run.
    """

    def __init__(self, run: StudyRun) -> None:
        self.run = run
        self.directory = RunDirectory(run.path)
        self._numbers = run.path / "measured.json"
        self._answers = run.path / "answers.parquet"

    @property
    def has_weights(self) -> bool:
        """Whether there is a whole trained model."""
        folder = self.directory.model
        files = [path for end in ("safetensors", "bin") for path in folder.glob(f"*.{end}")]
        return self.directory.trained and bool(files)

    def state(self, settings: Mapping[str, Any], data: Mapping[str, str]) -> State:
        """Return what there is of the run.

        Args:
            settings: How it is to be measured; see `measuring`.
            data: Content hashes of what it is to be made from.

        Raises:
            RunMismatchError: If what there is was made with other settings or from other data.
        """
        self.directory.check(self.run.recipe, stage="train")
        before = self.numbers()
        if before is None:
            return "trained" if self.has_weights else "open"
        training = ("train", "validation")
        different = [
            f"content hash of the {name}: {before['data'].get(name)} in the run, "
            f"{data.get(name)} now"
            for name in dict.fromkeys([*before["data"], *data])
            if before["data"].get(name) != data.get(name)
            and (name in training or not self.has_weights)
        ]
        changed = [
            f"{entry}: {before['settings'].get(entry)!r} in the run, {settings.get(entry)!r} now"
            for entry in dict.fromkeys([*before["settings"], *settings])
            if before["settings"].get(entry) != settings.get(entry)
        ]
        if different or (changed and not self.has_weights):
            lines = "\n".join(f"  {line}" for line in [*different, *changed])
            raise RunMismatchError(
                f"{self.run.path} was measured with other settings or data, and its model is not "
                f"there to be measured again:\n{lines}"
            )
        same = before["data"] == dict(data) and not changed
        return "measured" if same else "trained"

    def numbers(self) -> dict[str, Any] | None:
        """Return what is known of the run, `None` before it is measured."""
        if not self._numbers.is_file():
            return None
        found: dict[str, Any] = json.loads(self._numbers.read_text(encoding="utf-8"))
        return found

    def answers(self) -> list[dict[str, Any]]:
        """Return the answers, the held-out domain first.

        Raises:
            DataError: If they cannot be read.
        """
        try:
            return list(parquet.read_table(self._answers, schema=ANSWERS).to_pylist())
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(
                f"cannot read {self._answers}: {error}. Delete {self._numbers} to measure again"
            ) from error

    def write(self, answers: Sequence[Mapping[str, Any]], numbers: Mapping[str, Any]) -> None:
        """Write what was measured; an interruption leaves the run unmeasured, or measured."""
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.Table.from_pylist(list(answers), schema=ANSWERS), sink)
        write_whole(self._answers, sink.getvalue().to_pybytes())
        text = json.dumps({"schema": SCHEMA, **numbers}, indent=2, ensure_ascii=False)
        write_whole(self._numbers, f"{text}\n".encode())

    def drop_model(self) -> None:
        """Delete the weights and the tokenizer; what says how the model was made stays."""
        for path in self.directory.model.iterdir():
            if path.name not in ("config.json", "smoothing.json"):
                path.unlink()


def measuring(recipe: Recipe, run: StudyRun) -> dict[str, Any]:
    """Return how a run is measured, as plain values that decide its numbers.

    Args:
        recipe: The recipe with its study.
        run: The run.
    """
    study, certify = study_of(recipe), run.recipe.certify
    settings: dict[str, Any] = {
        "split": certify.split,
        "limit": study.limit,
        "drop_repeats": study.drop_repeats,
        "seed": recipe.seed,
        "deleted": study.deleted,
        "draws": study.draws if study.deleted is not None else None,
        "certify": study.certify,
        "attack": plain(study.attack),
    }
    if study.certify is not None:
        settings |= {"plan": plain(certify.plan), "attacker": certify.attackers[0]}
    return settings


def refusal(errors: Mapping[str, RunMismatchError]) -> RunMismatchError:
    """Return one error for the runs that a study would have to make again.

    Args:
        errors: What is wrong with each of them; one at least.
    """
    first, error = next(iter(errors.items()))
    return RunMismatchError(
        f"{len(errors)} of the runs that are there would be made otherwise now, the first of them "
        f"{first}:\n{error}\nFor a study, --fresh with --only and the variant makes its runs "
        "again; or give the changed variant another name."
    )
