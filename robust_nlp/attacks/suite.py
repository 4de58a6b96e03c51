"""A suite of attacks: against any classifier, with controls of its own credibility."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from robust_nlp.attacks.examples import read_examples
from robust_nlp.attacks.recipes import AnyAttack, attack_name, cost_rank
from robust_nlp.attacks.report import AttackReport
from robust_nlp.attacks.run import Run
from robust_nlp.attacks.settings import AttackRecipe
from robust_nlp.attacks.stage import identity
from robust_nlp.attacks.victim import ScoreType
from robust_nlp.augmentation.victim import model_key
from robust_nlp.base_classifier import Side
from robust_nlp.data import Split
from robust_nlp.errors import DataError, RobustNLPWarning
from robust_nlp.files import write_whole
from robust_nlp.smoothing import SmoothedClassifier


class AttackSuite:
    """Attacks of TextAttack against a classifier, the cheapest first.

    Guarantees: rows depend on the classifier, the settings, the seed and the example alone, up to
        rounding of the classifier's scores: they are the same for any width, order of examples,
        number of processes, and after an interruption. An outcome "success" means that the judge
        confirms another class: the classifier asked once more, or new votes with a confidence
        bound for a smoothed classifier.
    Assumes: what TextAttack calls the same class or sentence means the same to people.
    Does not cover: attacks that are not in the suite, which may leave less.

    Args:
        attacks: Attacks: our names (see `robust_nlp.attacks.settings.NAMES`), names of classes of
            `textattack.attack_recipes`, such classes, functions that build an attack on a victim,
            or instances of `textattack.Attack`. `None` takes those of the settings.
        settings: Limits and votes.
        seed: Seed of attacks and votes, at least 0.

    Raises:
        DataError: If an attack is listed twice, or "a2t" has no swaps.
    """

    def __init__(
        self,
        attacks: Sequence[AnyAttack] | None = None,
        *,
        settings: AttackRecipe | None = None,
        seed: int = 0,
    ) -> None:
        self.settings, self.seed = settings or AttackRecipe(), seed
        chosen = sorted(self.settings.attacks if attacks is None else attacks, key=cost_rank)
        self.attacks: dict[str, AnyAttack] = {}
        for attack in chosen:
            name = attack_name(attack)
            if name in self.attacks:
                raise DataError(
                    f"two attacks are called {name!r}; build them in functions of different names"
                )
            self.attacks[name] = attack
        if not self.attacks:
            raise DataError("a suite needs one attack or more; got none")
        if "a2t" in self.attacks and self.settings.swaps is None:
            raise DataError(
                'the attack "a2t" needs allowed swaps: settings=AttackRecipe(attacks=("a2t",), '
                "swaps=...)"
            )

    def run(
        self,
        classifier: Any,
        dataset: Split | Iterable[Any],
        *,
        scores: ScoreType | None = None,
        protected: Side | None = None,
        folder: str | Path | None = None,
        model: str | None = None,
        processes: Any = None,
    ) -> AttackReport:
        """Attack a classifier.

        Args:
            classifier: A `HuggingFaceClassifier`, a `SmoothedClassifier`, a `CallableClassifier`,
                or a function that takes texts (or pairs) and returns a row of scores each.
            dataset: A `Split`, or examples: (text, label), or mappings with `text`, `label`,
                for pairs `pair`, and `example_id` if it is not the position; such are the rows of
                a `datasets.Dataset`.
            scores: What a function returns; see `PlainVictim`.
            protected: Which text of a pair is not attacked; `None` takes what the classifier says.
            folder: Where rows are kept, so that a second call makes only what is missing; also
                what processes share the work through.
            model: What stands for the classifier where rows are looked up; `None` takes a hash of
                its weights.
            processes: The `accelerate.PartialState`; `None` takes that of this process.

        Raises:
            MissingExtraError: If TextAttack cannot be imported.
            DataError: If an attack lacks data, which is said before anything runs; if examples
                have no labels; or if all attacks end in errors.
            ModelError: If the classifier cannot be used.

        Warns:
            RobustNLPWarning: For each detector that is flagged.
        """
        examples = read_examples(dataset, self.settings.limit)
        if folder is not None and model is None:
            model = classifier_key(classifier)
        if folder is not None and processes is None:
            from accelerate import PartialState

            processes = PartialState()
        report = Run(
            self.attacks,
            self.settings,
            classifier,
            examples,
            seed=self.seed,
            scores=scores,
            protected=protected,
            folder=None if folder is None else Path(folder),
            model=model,
            processes=processes,
        )()
        for finding in report.flagged:
            warnings.warn(finding.words, RobustNLPWarning, stacklevel=2)
        return report


def run_attacks(
    classifier: Any,
    split: Split,
    settings: AttackRecipe,
    folder: str | Path,
    *,
    seed: int = 0,
    model: str | None = None,
    protected: Side | None = None,
    processes: Any = None,
) -> AttackReport:
    """Attack a split as a recipe says, and keep rows and a summary in a folder.

    The folder holds `rows/part-*.jsonl`, where rows are looked up, those of control experiments
    included; `rows.parquet`, a row an example and attack; and `summary.json`.

    Args:
        classifier: See `AttackSuite.run`.
        split: The texts, with labels.
        settings: The recipe.
        folder: Where rows and summary are kept; an interrupted run goes on there.
        seed: Seed of attacks and votes, at least 0.
        model: What stands for the classifier; `None` takes a hash of its weights.
        protected: Which text of a pair is not attacked; `None` takes what the classifier says.
        processes: The `accelerate.PartialState`; `None` takes that of this process.

    Raises:
        MissingExtraError: If TextAttack cannot be imported.
        DataError: See `AttackSuite.run`.
        ModelError: If the classifier cannot be used.
    """
    from accelerate import PartialState

    folder = Path(folder)
    state = PartialState() if processes is None else processes
    report = AttackSuite(settings=settings, seed=seed).run(
        classifier,
        split,
        folder=folder / "rows",
        model=model,
        protected=protected,
        processes=state,
    )
    if state.is_main_process:
        text = json.dumps(report.summary(), indent=2, ensure_ascii=False)
        write_whole(folder / "summary.json", (text + "\n").encode())
        rows = [dataclasses.asdict(row) for part in report.rows.values() for row in part]
        sink = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
        write_whole(folder / "rows.parquet", sink.getvalue())
    return report


def classifier_key(classifier: Any) -> str:
    """Return a key of a classifier's weights, and of the noise it is smoothed with.

    Raises:
        ModelError: If it is, or is based on, a function, whose answers nobody knows.
    """
    if not isinstance(classifier, SmoothedClassifier):
        return model_key(classifier)
    mechanism = classifier.mechanism
    return identity(
        base=model_key(classifier.base),
        mechanism=mechanism.to_dict(),
        contents={name: value["content_hash"] for name, value in mechanism.contents().items()},
    )
