"""What happens at the start of an epoch: texts are drawn anew, and dear things made again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from robust_nlp.augmentation.adversarial import AdversarialRows, model_of
from robust_nlp.augmentation.importance import word_importance
from robust_nlp.augmentation.ledger import Result, work_through
from robust_nlp.augmentation.rows import DrawnRows, whole_text
from robust_nlp.augmentation.victim import Victim
from robust_nlp.errors import RecipeError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.units import text_key

#: Texts whose importance is measured, and written, together.
_TOGETHER = 16


class RefreshRows(TrainerCallback):
    """Tell rows which epoch begins, and renew what depends on the classifier.

    An epoch that is resumed in its middle goes on with the texts that it began with. Processes
    share the work, and wait for each other: with several, set `ddp_timeout` of the Trainer to more
    than an attack of all rows may take.

    Args:
        rows: The parts of the training set that change.
        classifier: The classifier in training; needed by adversarial rows and by importance.
        folder: Where importance is kept, a folder for each epoch that it is measured in; needed by
            importance.

    Raises:
        RecipeError: If something that is needed is missing.
    """

    def __init__(
        self,
        rows: Sequence[DrawnRows | AdversarialRows],
        classifier: HuggingFaceClassifier | None = None,
        *,
        folder: str | Path | None = None,
    ) -> None:
        self._rows, self._classifier = list(rows), classifier
        self._folder = None if folder is None else Path(folder)
        self._measured: dict[int, int] = {}
        for part in self._rows:
            if classifier is None and _depends(part):
                raise RecipeError(
                    f"these {type(part).__name__} depend on the classifier in training: give "
                    "RefreshRows(rows, classifier)"
                )
            if self._folder is None and isinstance(part, DrawnRows) and part.sources:
                raise RecipeError(
                    "importance of words is kept on disk: give RefreshRows(..., folder=...)"
                )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if args.dataloader_persistent_workers and any(map(_depends, self._rows)):
            raise RecipeError(
                "worker processes of the data loader that outlive an epoch keep the rows of an "
                "earlier classifier; set dataloader_persistent_workers to false"
            )

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        # At the start of an epoch the Trainer's fractional epoch is a whole number up to rounding;
        # where it resumes, it lies inside the epoch.
        tiny, now = 1e-6, state.epoch or 0.0
        epoch = int(now + tiny)
        resumed = now - epoch > tiny
        for number, part in enumerate(self._rows):
            if isinstance(part, AdversarialRows):
                assert self._classifier is not None
                part.refresh(self._classifier, epoch, resumed=resumed)
                continue
            part.epoch = epoch
            measured = epoch // part.every * part.every
            if part.sources and self._measured.get(number) != measured:
                self._measure(number, part, measured, earlier=resumed or measured < epoch)
                self._measured[number] = measured

    def _measure(self, number: int, part: DrawnRows, epoch: int, *, earlier: bool) -> None:
        assert self._classifier is not None
        assert self._folder is not None
        classifier, sources = self._classifier, part.sources
        folder = self._folder / f"epoch-{epoch:03d}-{number}"
        model = model_of(folder, classifier, earlier=earlier)
        victim = Victim(classifier)
        texts = [whole_text(row) for row in sources]
        labels = [row["label"] for row in sources]

        def measured(positions: list[int]) -> list[Result]:
            found = word_importance(
                victim.scores,
                [texts[i] for i in positions],
                [labels[i] for i in positions],
                max_pieces=part.max_pieces,
                protected=part.protected,
            )
            return [{"importance": values.tolist()} for values in found]

        what = ("importance", model, str(part.max_pieces), part.protected)
        keys = [
            text_key(*what, str(row["source_id"]), str(row["label"]), str(text))
            for row, text in zip(sources, texts, strict=True)
        ]
        results = work_through(
            keys, measured, folder=folder, name="importance of words", chunk=_TOGETHER
        )
        part.set_importance(
            {
                row["source_id"]: np.array(result["importance"])
                for row, result in zip(sources, results, strict=True)
            }
        )


def _depends(part: DrawnRows | AdversarialRows) -> bool:
    return isinstance(part, AdversarialRows) or bool(part.sources)
