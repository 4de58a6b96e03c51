"""One run of a suite of attacks against one classifier, with its control experiments."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robust_nlp.attacks import detectors
from robust_nlp.attacks.detectors import Finding
from robust_nlp.attacks.recipes import AnyAttack, attack_name, attack_text, build, plan_of
from robust_nlp.attacks.report import AttackReport
from robust_nlp.attacks.rows import AttackRow
from robust_nlp.attacks.search import Example, Port, Search, rehearse
from robust_nlp.attacks.settings import LEAST_JUDGED, AttackRecipe
from robust_nlp.attacks.smoothed import Oracle, VotingJudge
from robust_nlp.attacks.stage import Stage, identity
from robust_nlp.attacks.standins import contents
from robust_nlp.attacks.victim import PlainVictim, ScoreType
from robust_nlp.augmentation.textattack_import import textattack_version
from robust_nlp.base_classifier import CallableClassifier, Side, Text
from robust_nlp.errors import DataError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.swaps import load_swaps

#: Version of rows on disk and of how they are made.
VERSION = 1

#: What the search climbs in the control experiment on saturated scores.
VARIANTS: dict[str, dict[str, Any]] = {
    "margins": {"score": "margin"},
    "probabilities at temperature 10": {"temperature": 10.0},
    "probabilities at temperature 100": {"temperature": 100.0},
}

#: Texts that are asked for repeatedly, and how often.
REPEATED = (8, 3)


class Run:
    """One run of a suite against one classifier; see `AttackSuite` for the arguments."""

    def __init__(
        self,
        attacks: dict[str, AnyAttack],
        settings: AttackRecipe,
        classifier: Any,
        examples: list[Example],
        *,
        seed: int,
        scores: ScoreType | None,
        protected: Side | None,
        folder: Path | None,
        model: str | None,
        processes: Any,
    ) -> None:
        self.settings, self.seed = settings, seed
        textattack_version()
        plans = {name: plan_of(attack, settings.given) for name, attack in attacks.items()}
        #: Attacks and what they run with, by the names that their results carry.
        self.attacks = {plans[name].title(name): attack for name, attack in attacks.items()}
        self.plans = {found.title(name): found for name, found in plans.items()}
        self.classifier, self.examples = classifier, examples
        self._scores, self._model = scores, model
        self.folder, self.processes = folder, processes
        smoothed = isinstance(classifier, SmoothedClassifier)
        base = classifier.base if smoothed else classifier
        own = getattr(
            base, "_protected" if isinstance(base, CallableClassifier) else "protected", None
        )
        self.protected: Side = protected or own or "second"
        self.plain: Any = base
        if not smoothed or isinstance(base, HuggingFaceClassifier | CallableClassifier):
            self.plain = PlainVictim(base, scores=scores, protected=self.protected)
        self.judge_alpha = self.settings.alpha / self.settings.judgements
        if smoothed:
            s = self.settings
            self.search = Search(
                scorer=Oracle(classifier, s.search_votes, seed=seed, scores=scores),
                judge=VotingJudge(
                    classifier,
                    s.judge_votes,
                    alpha=self.judge_alpha,
                    seed=seed,
                    first=LEAST_JUDGED * s.search_votes,
                ),
                redraw=s.redraw,
                judgements=s.judgements,
                max_forwards=s.max_forwards,
            )
        else:
            self.search = self._plain_search()

    def __call__(self) -> AttackReport:
        port = Port(self.search, self.plain)
        settings, pair = self.settings, not isinstance(self.examples[0].text, str)
        attacks = {
            name: build(attack, port, given=settings.given, protected=self.protected)
            for name, attack in self.attacks.items()
        }
        for name, attack in attacks.items():
            problem = rehearse(attack, self.plain, pair=pair)
            if problem is not None:
                raise DataError(
                    f"the attack {name!r} fails on a sentence that needs nothing special: "
                    f"{problem}. What recipes need is said by: robust-nlp doctor"
                )
        steady = None if self.search.redraw is not None else self._stochastic()
        rows: dict[str, list[AttackRow]] = {}
        alive = self.examples
        for name, attack in attacks.items():
            rows[name] = self._stage(name, attack, self.search)(alive, self.folder, self.processes)
            gone = ("success", "skipped") if settings.survivors_only else ()
            broken = {row.example_id for row in rows[name] if row.outcome in gone}
            alive = [example for example in alive if example.id not in broken]
        everything = [row for part in rows.values() for row in part]
        _check_errors(everything)
        name, attack = next(iter(attacks.items()))
        checked = self._checked(rows[name])
        ids = {example.id for example in checked}
        direct = [row for row in rows[name] if row.example_id in ids]
        checks = self._variants(name, attack, checked)
        findings = [
            detectors.saturation(direct, checks),
            steady
            or detectors.judged(
                everything, votes=settings.search_votes, judge_votes=settings.judge_votes
            ),
            detectors.blind(everything),
            detectors.skipped(rows[name]),
            detectors.exhausted(everything),
        ]
        if isinstance(self.classifier, SmoothedClassifier) and isinstance(self.plain, PlainVictim):
            checks["base classifier"], transfer = self._transfer(name, attack, checked, direct)
            findings.append(transfer)
        return AttackReport(rows=rows, findings=findings, checks=checks, counts=self._counts())

    def _plain_search(self) -> Search:
        return Search(scorer=self.plain, judge=self.plain, max_forwards=self.settings.max_forwards)

    def _stage(self, name: str, attack: Any, search: Search) -> Stage:
        settings = self.settings
        noisy = search.redraw is not None
        known, stand_ins = attack_name(self.attacks[name]), {}
        judged = (LEAST_JUDGED * settings.search_votes, settings.judge_votes)
        if self.plans[name].stand_ins:
            stand_ins = {"stand_ins": contents(self.plans[name], settings.given)}
        what = identity(
            version=VERSION,
            attack=attack_text(self.attacks[name], attack),
            textattack=textattack_version(),
            swaps=load_swaps(settings.swaps).fingerprint if known == "a2t" else None,  # type: ignore[arg-type]
            model=self._model,
            scores=self._scores,
            protected=self.protected,
            score=search.score,
            temperature=search.temperature,
            max_forwards=search.max_forwards,
            max_seconds=settings.max_seconds,
            votes=(settings.search_votes, settings.redraw, *judged) if noisy else None,
            judge=(settings.judgements, settings.alpha) if noisy else None,
            **stand_ins,
        )
        return Stage(
            name=name,
            attack=attack,
            search=search,
            plain=self.plain,
            protected=self.protected,
            width=settings.width,
            max_seconds=settings.max_seconds,
            seed=self.seed,
            identity=what,
        )

    def _checked(self, rows: Sequence[AttackRow]) -> list[Example]:
        """Return the first examples that were attacked, for control experiments."""
        attacked = {row.example_id for row in rows if row.attacked}
        chosen = [example for example in self.examples if example.id in attacked]
        return chosen[: self.settings.check_examples]

    def _variants(
        self, name: str, attack: Any, examples: list[Example]
    ) -> dict[str, list[AttackRow]]:
        return {
            variant: self._stage(name, attack, dataclasses.replace(self.search, **what))(
                examples, self.folder, self.processes
            )
            for variant, what in VARIANTS.items()
        }

    def _transfer(
        self, name: str, attack: Any, examples: list[Example], direct: list[AttackRow]
    ) -> tuple[list[AttackRow], Finding]:
        """Attack the base classifier alone, and have the finds judged."""
        rows = self._stage(name, attack, self._plain_search())(
            examples, self.folder, self.processes
        )
        found: dict[int, Text] = {
            row.example_id: self._found(example.text, row.found)
            for row, example in zip(rows, examples, strict=True)
            if row.found is not None
        }
        verdicts = self.search.judge.judge(list(found.values()))
        labels = {example.id: example.label for example in examples}
        broken = {
            i: verdict.predicted not in (None, labels[i])
            for i, verdict in zip(found, verdicts, strict=True)
        }
        transferred = {example.id: broken.get(example.id, False) for example in examples}
        return rows, detectors.transfer(direct, transferred)

    def _found(self, clean: Text, found: str) -> Text:
        if isinstance(clean, str):
            return found
        return (clean[0], found) if self.protected == "first" else (found, clean[1])

    def _stochastic(self) -> Finding:
        n, times = REPEATED
        texts = list(dict.fromkeys(example.text for example in self.examples))[:n]
        answers = [np.array(self.plain.logits(texts, remember=False)) for _ in range(times)]
        return detectors.stochastic(answers)

    def _counts(self) -> dict[str, Any]:
        settings = self.settings
        counts: dict[str, Any] = {
            "seed": self.seed,
            "textattack": textattack_version(),
            "max_forwards": settings.max_forwards,
            "max_seconds": settings.max_seconds,
            "score_type": self.search.scorer.score_type,  # type: ignore[attr-defined]
        }
        if self.search.redraw is not None:
            counts |= {
                "search_votes": settings.search_votes,
                "judge_votes": settings.judge_votes,
                "alpha": settings.alpha,
                "search_sees": "probabilities" if self.search.scorer.soft else "votes",  # type: ignore[attr-defined]
            }
        return counts


def _check_errors(rows: Sequence[AttackRow]) -> None:
    errors = [row.error for row in rows if row.outcome == "error"]
    if errors and len(errors) == sum(row.attacked for row in rows):
        raise DataError(
            f"all {len(errors)} attacks ended in errors of TextAttack, the first: {errors[0]}"
        )
