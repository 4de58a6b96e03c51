"""Adversarial examples against a classifier in training, as rows of its training set."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from robust_nlp.augmentation.attacks import AttackedRow, attack_text, build_attack
from robust_nlp.augmentation.importance import Scores
from robust_nlp.augmentation.ledger import Result, work_through
from robust_nlp.augmentation.rows import Row, checked_rows, next_id, whole_text, with_text
from robust_nlp.augmentation.settings import Adversarial, fingerprint
from robust_nlp.augmentation.victim import Victim, model_key
from robust_nlp.base_classifier import Side, Text, parts
from robust_nlp.errors import DataError, RobustNLPWarning
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.units import keyed_rng, text_key


class AdversarialExamples:
    """Attack texts with a recipe of TextAttack.

    Results depend on the classifier, the text, its label and id, the epoch and the seed alone: they
    are the same for any order of texts, any number of processes, and after an interruption.

    Args:
        settings: The recipe.
        seed: Seed of the attacks, at least 0.
        protected: Which text of a pair is never attacked.
    """

    def __init__(self, settings: Adversarial, *, seed: int = 0, protected: Side = "second") -> None:
        self.settings, self.seed, self.protected = settings, seed, protected

    def generate(
        self,
        classifier: HuggingFaceClassifier | Scores,
        texts: Sequence[Text],
        labels: Sequence[int],
        *,
        epoch: int = 0,
        folder: str | Path | None = None,
        example_ids: Sequence[int] | None = None,
        model: str | None = None,
        processes: Any = None,
    ) -> list[AttackedRow]:
        """Return what became of each text.

        Args:
            classifier: What is attacked; see `Victim`.
            texts: The texts, or pairs of texts.
            labels: One class index a text.
            epoch: Epoch of training, from 0.
            folder: Where results are kept, so that a second call makes only what is missing; also
                what processes share the work through.
            example_ids: Which examples the texts are; `None` counts them.
            model: What stands for the classifier where results are looked up; `None` takes a hash
                of its weights.
            processes: See `work_through`.

        Raises:
            MissingExtraError: If TextAttack cannot be imported.
            DataError: If the recipe lacks data, if all attacks end in errors, or if texts, labels
                and ids are not equally many.
            ModelError: If the classifier cannot be used.

        Warns:
            RobustNLPWarning: If some attacks ended in errors of TextAttack.
        """
        ids = range(len(texts)) if example_ids is None else example_ids
        if not len(texts) == len(labels) == len(ids):
            raise DataError(
                f"expected one label and one id a text; got {len(labels)} and {len(ids)} for "
                f"{len(texts)} texts"
            )
        if folder is not None and model is None:
            model = model_key(classifier)
        what = (fingerprint(self.settings), str(self.seed), self.protected, str(epoch), str(model))
        keys = [
            text_key("attack", *what, str(i), str(label), *parts(text))
            for i, label, text in zip(ids, labels, texts, strict=True)
        ]
        attack: Any = None

        def attacked(positions: list[int]) -> list[Result]:
            nonlocal attack
            if attack is None:  # not built if all is known
                victim = Victim(classifier)
                attack = build_attack(self.settings, victim, protected=self.protected)
            results = []
            for i in positions:
                seed = int(keyed_rng(self.seed, "attack", epoch, ids[i]).integers(2**63))
                results.append(attack_text(attack, texts[i], labels[i], seed=seed)._asdict())
            return results

        results = work_through(keys, attacked, folder=folder, name="attack", processes=processes)
        rows = [AttackedRow(**result) for result in results]
        rows = [
            row if isinstance(row.text, str) else row._replace(text=(row.text[0], row.text[1]))
            for row in rows
        ]
        _report_errors(rows)
        return rows


class AdversarialRows(Dataset[Row]):
    """Adversarial versions of training rows, beside the rows themselves.

    The set has a fixed number of rows with fixed domains, labels and ids, so that samplers may look
    at them once; `refresh` draws which rows of each domain and label are attacked. Before that, and
    where no adversarial text was found, a row holds a text as it is. Put it behind the training
    set: `rows + AdversarialRows(...)`.

    Rows keep all entries of the row that was attacked, and its `source_id`; they have
    `augmented=True`, or a domain of their own if the settings name one.

    Args:
        rows: The training rows; copies among them are not attacked. See
            `robust_nlp.augmentation.rows.Row`.
        settings: The recipe, how often, and how many.
        folder: Where results are kept, a folder for each attacked epoch.
        seed: Seed of the choice of rows and of the attacks.
        protected: Which text of a pair is never attacked.
        first_id: `example_id` of the first row; `None` takes one above those of the rows. Where
            they stand beside copies, take one above those of the copies.

    Raises:
        DataError: If rows lack an entry, or ids are no whole numbers or not unique.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        settings: Adversarial,
        *,
        folder: str | Path,
        seed: int = 0,
        protected: Side = "second",
        first_id: int | None = None,
    ) -> None:
        known = checked_rows(rows)
        self.settings, self.folder, self.seed = settings, Path(folder), seed
        self._examples = AdversarialExamples(settings, seed=seed, protected=protected)
        self._first_id = next_id(known) if first_id is None else first_id
        self._groups: dict[Any, list[Row]] = defaultdict(list)
        for row in known:
            if not row["augmented"]:
                self._groups[row.get("domain"), row["label"]].append(row)
        self._drawn: int | None = None
        self._rows = [self._placed(k, row) for k, row in enumerate(self._chosen(settings.start))]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return dict(self._rows[index])

    def attacked_epoch(self, epoch: int) -> int | None:
        """Return the epoch that the rows of an epoch are made in; `None` before the first."""
        start, every = self.settings.start, self.settings.every
        return None if epoch < start else start + (epoch - start) // every * every

    def refresh(
        self, classifier: HuggingFaceClassifier, epoch: int, *, resumed: bool = False
    ) -> list[AttackedRow]:
        """Attack the rows of an epoch, or find them on disk; call it in all processes.

        Args:
            classifier: The classifier in training.
            epoch: The epoch that begins, from 0.
            resumed: Whether training goes on in the middle of the epoch, so that what is on disk
                was made with an earlier classifier, and rightly so.

        Returns:
            What became of the rows; empty if there was nothing to do.
        """
        attacked = self.attacked_epoch(epoch)
        if attacked is None or attacked == self._drawn:
            return []
        chosen = self._chosen(attacked)
        folder = self.folder / f"epoch-{attacked:03d}"
        found = self._examples.generate(
            classifier,
            [whole_text(row) for row in chosen],
            [row["label"] for row in chosen],
            epoch=attacked,
            folder=folder,
            example_ids=[row["source_id"] for row in chosen],
            model=model_of(folder, classifier, earlier=resumed or attacked < epoch),
        )
        self._rows = [
            self._placed(k, with_text(row, attack.text))
            for k, (row, attack) in enumerate(zip(chosen, found, strict=True))
        ]
        self._drawn = attacked
        return found

    def _chosen(self, epoch: int) -> list[Row]:
        chosen = []
        for group, rows in self._groups.items():
            rng = keyed_rng(self.seed, "attacked", epoch, repr(group))
            order = rng.permutation(len(rows))[: max(1, round(self.settings.share * len(rows)))]
            chosen += [rows[i] for i in order]
        return chosen

    def _placed(self, place: int, row: Row) -> Row:
        new = {**row, "augmented": True, "example_id": self._first_id + place}
        if self.settings.environment is not None:
            new.update(domain=self.settings.environment, augmented=False)
        return new


def model_of(folder: Path, classifier: Any, *, earlier: bool) -> str:
    """Return the key of the model whose results a folder is for, and note it there.

    Args:
        folder: The folder of one epoch.
        classifier: The classifier in training.
        earlier: Whether the model that the folder names is the right one, and not the present one.
    """
    note = folder / "model.txt"
    if earlier and note.is_file():
        return note.read_text(encoding="utf-8")
    key = model_key(classifier)
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(key, encoding="utf-8")
    return key


def _report_errors(rows: Sequence[AttackedRow]) -> None:
    errors = [row.error for row in rows if row.outcome == "error"]
    if errors and len(errors) == sum(row.outcome != "skipped" for row in rows):
        raise DataError(
            f"all {len(errors)} attacks ended in errors of TextAttack, the first: {errors[0]}"
        )
    if errors:
        warnings.warn(
            f"{len(errors)} of {len(rows)} attacks ended in errors of TextAttack, the first: "
            f"{errors[0]}; these texts stay as they are",
            RobustNLPWarning,
            stacklevel=3,
        )
