"""Run directories: what is on disk after and during a run."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow
from pyarrow import parquet

from robust_nlp import environment
from robust_nlp.errors import DataError, RobustNLPWarning, RunMismatchError
from robust_nlp.files import write_whole
from robust_nlp.recipe import Recipe, load_recipe, recipe_to_dict, recipe_to_yaml

Stage = Literal["train", "train_denoiser", "certify"]

#: Version of the layout of a run directory.
SCHEMA = 1

#: Entries of a recipe that change neither a vote nor a trained weight. A limit may grow or shrink:
#: parts are cut where they would be cut without one, and draws belong to the text alone. Of the
#: attackers, only the first tells sequential plans when to stop; it is compared by itself. Scores,
#: attacks and the runs of a study or comparison compare their own settings with what they hold. The
#: device is free in single precision only (see `_free`).
FREE = (
    "name",
    "report",
    "score",
    "attack",
    "study",
    "compare",
    "certify.limit",
    "certify.attackers",
    "certify.part_size",
    "model.batch_tokens",
    "denoiser.batch_tokens",
)

#: Entries that do not change what a trained denoiser is.
FREE_OF_DENOISERS = (
    "certify",
    "train",
    "denoiser.fills",
    "denoiser.rounds",
    "denoiser.temperature",
    "denoiser.seed",
)

_COUNTS = pyarrow.list_(pyarrow.int64())
#: Columns of a certificate row. The votes come first; from `predicted` on, the certificate against
#: the first attacker, for convenience.
ROW = pyarrow.schema(
    [
        ("example_id", pyarrow.int64()),
        ("text_hash", pyarrow.string()),
        ("text", pyarrow.string()),
        ("pair", pyarrow.string()),
        ("label", pyarrow.int64()),
        ("n_units", pyarrow.int64()),
        ("exact", pyarrow.list_(pyarrow.float64())),
        ("remainder", pyarrow.float64()),
        ("selection", _COUNTS),
        ("looks", pyarrow.list_(_COUNTS)),
        ("schedule", _COUNTS),
        ("profile", pyarrow.list_(pyarrow.list_(pyarrow.float64()))),
        ("votes_asked", pyarrow.int64()),
        ("votes_classified", pyarrow.int64()),
        ("seconds", pyarrow.float64()),
        ("predicted", pyarrow.int64()),
        ("radius", pyarrow.int64()),
        ("p_lower", pyarrow.float64()),
        ("p_runner_up", pyarrow.float64()),
        ("alpha", pyarrow.float64()),
        ("method", pyarrow.string()),
        ("dead_zone", pyarrow.bool_()),
    ]
)


class RunDirectory:
    """One run on disk: its recipe, manifest, model and certificates.

    Files are written under a temporary name and renamed, so that an interruption leaves whole
    files only.

    Args:
        path: The folder; it need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def model(self) -> Path:
        """The folder of the trained classifier."""
        return self.path / "model"

    @property
    def certificates(self) -> Path:
        """The folder of the parts."""
        return self.path / "certificates"

    @property
    def trained(self) -> bool:
        """Whether a training is complete."""
        stage = self.manifest().get("stages", {}).get("train", {})
        return bool(stage.get("complete")) and self.model.exists()

    @property
    def denoiser(self) -> Path:
        """The folder of the trained denoiser."""
        return self.path / "denoiser"

    @property
    def denoiser_trained(self) -> bool:
        """Whether a training of a denoiser is complete."""
        stage = self.manifest().get("stages", {}).get("train_denoiser", {})
        return bool(stage.get("complete")) and self.denoiser.exists()

    @property
    def denoiser_training(self) -> bool:
        """Whether a training of a denoiser was begun and is not complete."""
        begun = self.denoiser.exists() or (self.path / "denoiser-training").exists()
        return begun and not self.denoiser_trained

    @property
    def training(self) -> bool:
        """Whether a training was begun and is not complete."""
        begun = self.model.exists() or (self.path / "checkpoints").exists()
        return begun and not self.trained

    def start(self, recipe: Recipe, *, stage: Stage = "certify", fresh: bool = False) -> None:
        """Prepare the directory for a recipe; what was done under the same settings is kept.

        Args:
            recipe: What is going to run.
            stage: What is going to run of it.
            fresh: Whether to delete old certificates first and, before training, the old model.

        Raises:
            RunMismatchError: See `check`.
        """
        if fresh:
            shutil.rmtree(self.certificates, ignore_errors=True)
            if stage == "train":
                shutil.rmtree(self.model, ignore_errors=True)
                shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
            if stage == "train_denoiser":
                shutil.rmtree(self.denoiser, ignore_errors=True)
                shutil.rmtree(self.path / "denoiser-training", ignore_errors=True)
        self.check(recipe, stage=stage)
        self.certificates.mkdir(parents=True, exist_ok=True)
        for leftover in self.certificates.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        versions = environment.versions()
        manifest = self.manifest()
        stages: dict[str, Any] = manifest.get("stages", {})
        if self.parts_done():
            _warn_of_versions(manifest.get("versions", {}), versions)
        else:
            stages.pop("certify", None)
        if stage != "certify":
            stages.pop(stage, None)
        write_whole(self.path / "recipe.yaml", recipe_to_yaml(recipe).encode())
        self._write_manifest(
            manifest,
            schema=SCHEMA,
            recipe=recipe_to_dict(recipe),
            versions=versions,
            command=environment.command(),
            git_commit=environment.git_commit(),
            stages=stages,
        )

    def check(self, recipe: Recipe, *, stage: Stage = "certify") -> None:
        """Compare a recipe with the results that the directory holds; nothing is changed.

        Args:
            recipe: What is going to run.
            stage: What is going to run of it.

        Raises:
            RunMismatchError: If there are results that the recipe would not have made; the message
                gives both values of each entry.
        """
        certified = bool(self.parts_done())
        trained = self.model.exists() or (self.path / "checkpoints").exists()
        denoiser = self.denoiser_trained or self.denoiser_training
        if not certified and not trained and not denoiser:
            return
        new = (stage == "train" and not trained) or (stage == "train_denoiser" and not denoiser)
        if certified and new:
            raise RunMismatchError(
                f"{self.path} holds certificates of another classifier than the one that would be "
                "trained now. Use --fresh to start again, or choose another --output."
            )
        for what, is_there, free in (
            ("a model", trained, (*_free(recipe), "certify", "denoiser")),
            ("a denoiser", denoiser, (*_free(recipe), *FREE_OF_DENOISERS)),
            (
                "certificates",
                certified,
                (
                    *_free(recipe),
                    *(() if trained else ("train",)),
                    *(() if denoiser else ("denoiser.train",)),
                ),
            ),
        ):
            differences = list(_differences(self.recipe(), recipe, free)) if is_there else []
            if differences:
                how = {
                    "a model": "`train` with --fresh",
                    "a denoiser": "`train-denoiser` with --fresh",
                }.get(what, "--fresh")
                raise RunMismatchError(
                    f"{self.path} holds {what} made with other settings:\n"
                    + "\n".join(f"  {line}" for line in differences)
                    + f"\nUse {how} to start again, or choose another --output."
                )

    def identify(self, **contents: Mapping[str, Any]) -> None:
        """Record in the manifest what certificates are made from.

        Args:
            contents: Entries of the manifest, such as `data`, with a `content_hash` each.

        Raises:
            RunMismatchError: If there are certificates of other contents.
        """
        manifest = self.manifest()
        for name, content in contents.items():
            before, now = manifest.get(name, {}).get("content_hash"), content["content_hash"]
            if self.parts_done() and before != now:
                raise RunMismatchError(
                    f"{self.path} holds certificates that were made with another content of the "
                    f"{name} (content_hash {before} in the run, {now} now). "
                    "Use --fresh to start again, or choose another --output."
                )
        self.update_manifest(**contents)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest; empty before the first start."""
        path = self.path / "manifest.json"
        if not path.is_file():
            return {}
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return manifest

    def update_manifest(self, **entries: Any) -> None:
        """Replace entries of the manifest; the stages of `stages` replace those of their name."""
        manifest = self.manifest()
        entries["stages"] = manifest.get("stages", {}) | entries.get("stages", {})
        self._write_manifest(manifest, **entries)

    def recipe(self) -> Recipe:
        """Return the recipe of the run.

        Raises:
            DataError: If there is no run.
        """
        path = self.path / "recipe.yaml"
        if self.path.is_file():
            raise DataError(
                f"{self.path} is a file; expected the directory of a run, such as runs/<name>"
            )
        if not path.is_file():
            methods = sorted(each.parent.name for each in self.path.glob("*/recipe.yaml"))
            inside = f". Perhaps you mean one of its folders: {', '.join(methods)}"
            raise DataError(
                f"{self.path} is not a run directory: it has no recipe.yaml"
                f"{inside if methods else ''}"
            )
        return load_recipe(path)

    def parts_done(self) -> set[tuple[int, int]]:
        """Return the ranges of examples, (start, stop), that are certified."""
        return set(self._parts())

    def write_part(self, start: int, stop: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the certificate rows of the examples from `start` up to and without `stop`."""
        if [row["example_id"] for row in rows] != list(range(start, stop)):
            raise ValueError(f"expected one row for each of the examples {start} to {stop - 1}")
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=ROW), sink)
        name = f"part-{start:06d}-{stop - 1:06d}.parquet"
        write_whole(self.certificates / name, sink.getvalue())

    def rows(self) -> list[dict[str, Any]]:
        """Return the certificate rows within the recipe's limit, by example.

        Raises:
            DataError: If there is no run, or a part cannot be read.
        """
        limit = self.recipe().certify.limit
        rows: list[dict[str, Any]] = []
        for _, path in sorted(self._parts().items()):
            try:
                rows += parquet.read_table(path, schema=ROW).to_pylist()
            except (OSError, pyarrow.ArrowException) as error:
                raise DataError(
                    f"cannot read {path}: {error}. Delete it and certify again."
                ) from error
        return [row for row in rows if limit is None or row["example_id"] < limit]

    def _write_manifest(self, manifest: Mapping[str, Any], **entries: Any) -> None:
        text = json.dumps({**manifest, **entries}, indent=2, ensure_ascii=False)
        write_whole(self.path / "manifest.json", text.encode())

    def _parts(self) -> dict[tuple[int, int], Path]:
        parts = {}
        for path in self.certificates.glob("part-*.parquet"):
            if match := re.fullmatch(r"part-(\d+)-(\d+)\.parquet", path.name):
                parts[int(match[1]), int(match[2]) + 1] = path
        return parts


def _free(recipe: Recipe) -> tuple[str, ...]:
    """In half precision, devices round differently enough to change votes."""
    return (*FREE, "model.device") if recipe.model.dtype == "float32" else FREE


def _differences(before: Recipe, now: Recipe, free: Sequence[str]) -> Iterator[str]:
    """Say each entry that differs, except those under a free one."""
    old, new = (dict(_entries(recipe_to_dict(recipe))) for recipe in (before, now))
    for values, recipe in ((old, before), (new, now)):
        values["certify.attackers[0]"] = recipe.certify.attackers[0]
    for entry in dict.fromkeys([*old, *new]):
        parts = entry.split(".")
        if any(".".join(parts[:depth]) in free for depth in range(1, len(parts) + 1)):
            continue
        if old.get(entry) != new.get(entry):
            was, will_be = (repr(values.get(entry)) for values in (old, new))
            yield f"{entry}: {was} in the run, {will_be} in the recipe"


def _entries(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _warn_of_versions(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    changed = [
        f"{name} {was} → {now.get(name)}" for name, was in before.items() if now.get(name) != was
    ]
    if changed:
        warnings.warn(
            f"the run goes on with other versions ({', '.join(changed)}); votes near a tie may "
            "differ from those of one version",
            RobustNLPWarning,
            stacklevel=3,
        )
