"""One attack on one example: what it may ask, what it costs, and when it has won."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.special import expit

from robust_nlp.attacks.lockstep import Interruption, ask
from robust_nlp.attacks.recipes import COLUMNS, copy_attack
from robust_nlp.attacks.victim import Judge, Question, Scorer, Verdict
from robust_nlp.augmentation.textattack_import import own_randomness, textattack
from robust_nlp.base_classifier import Text
from robust_nlp.errors import RobustNLPError
from robust_nlp.mechanisms.base import FloatArray

#: What the search climbs: one less the probability of the label, or the margin of log-probabilities
#: in multiples of that of the clean text, which no scale of the logits can flatten.
Score = Literal["probability", "margin"]

#: Range of scores, in `[0, 1]`, below which a search sees nothing: single precision has no finer
#: scores near one, and rounding between batches is of this size.
SEEN = 1e-6

#: Questions of a rehearsal at most.
REHEARSED = 300

#: Texts that TextAttack hands over at once at most.
BATCH = 4096


class OverBudget(Interruption):
    """An attack would use more forwards than it may."""


class Example(NamedTuple):
    """A text under attack."""

    id: int
    text: Text
    label: int


@dataclass(frozen=True, kw_only=True)
class Search:
    """How attacks ask and are judged.

    Attributes:
        scorer: Answers the search.
        judge: Decides what counts.
        score: What the search climbs.
        temperature: What logits are divided by for the search, above 0.
        redraw: Rounds of questions between new noise; `None` for no noise.
        judgements: Texts that the judge looks at during a search with noise.
        max_forwards: Forwards per example at most; `None` for no limit.
    """

    scorer: Scorer
    judge: Judge
    score: Score = "probability"
    temperature: float = 1.0
    redraw: int | None = None
    judgements: int = 1
    max_forwards: int | None = None


class Found(NamedTuple):
    """What became of an attack whose search ended by itself.

    Attributes:
        ending: "found" if the search ended with a text of another class, "searched" if it did
            not, "skipped" if the clean text was wrong already, "error" if TextAttack failed.
        text: The text that was found, else `None`.
        verdict: What the judge says about it.
        error: What went wrong.
    """

    ending: Literal["found", "searched", "skipped", "error"]
    text: Text | None = None
    verdict: Verdict | None = None
    error: str = ""


@dataclass
class Tally:
    """What an attack on an example has cost and seen so far.

    Attributes:
        queries: Questions as TextAttack counts them, repetitions included.
        forwards: Forwards of the base classifier, the judge's included.
        judged: Forwards of the judge among them.
        flips: Texts that the search took for another class, and that were not yet judged before.
        doubts: Verdicts on them that named no class.
        clean: The verdict on the clean text.
        lowest: Least score of texts with the label's class.
        highest: Largest score of them.
        distinct: Different texts asked.
    """

    queries: int = 0
    forwards: int = 0
    judged: int = 0
    flips: int = 0
    doubts: int = 0
    clean: Verdict | None = None
    lowest: float = float("inf")
    highest: float = -float("inf")
    distinct: int = 0
    verdicts: dict[Text, Verdict] = field(default_factory=dict)

    @property
    def moved(self) -> float:
        """How far apart the scores were that the search could climb."""
        return max(0.0, self.highest - self.lowest)


class Port:
    """What TextAttack calls a model wrapper, for one example at a time."""

    def __init__(self, search: Search, plain: Any) -> None:
        self.search = search
        self._plain = plain
        self.model = getattr(plain, "model", plain)
        self.gives_gradients = bool(getattr(plain, "gives_gradients", False))
        self.begin(Example(0, "", 0))

    def begin(self, example: Example) -> Tally:
        """Turn to an example."""
        self.example, self.tally = example, Tally()
        self._known: dict[Text, FloatArray] = {}
        self._round = self._rounds = 0
        self._margin: float | None = None
        return self.tally

    def __call__(self, texts: Sequence[Text]) -> torch.Tensor:
        """Return probabilities in double precision; shape `(texts, classes)`."""
        search, tally = self.search, self.tally
        if search.redraw is not None and self._rounds // search.redraw != self._round:
            self._round = self._rounds // search.redraw
            self._known = {}
        self._rounds += 1
        tally.queries += len(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._charge(len(new) * search.scorer.cost)
        tally.distinct += len(new)
        questions = [
            Question(text, self.example.id, self._round, search.temperature) for text in new
        ]
        for text, log_p in zip(new, ask(search.scorer.score, questions), strict=True):
            self._known[text] = log_p
            if int(log_p.argmax()) == self.example.label:
                score = self.score(log_p)
                tally.lowest = min(tally.lowest, score)
                tally.highest = max(tally.highest, score)
        return torch.from_numpy(np.exp(np.array([self._known[text] for text in texts])))

    def score(self, log_p: FloatArray) -> float:
        """Return what the search climbs, in `[0, 1]`, from log-probabilities; `(classes,)`."""
        label = self.example.label
        if self.search.score == "probability":
            return float(-np.expm1(log_p[label]))
        margin = float(np.delete(log_p, label).max() - log_p[label])
        if self._margin is None:  # the clean text is the first to be asked for
            self._margin = abs(margin) or 1.0
        return float(expit(2.0 * margin / self._margin))

    def goal_score(self, text: Text) -> float:
        """Return the score of a text that was asked for."""
        return self.score(self._known[text])

    def judge(self, text: Text) -> Verdict:
        """Ask the judge, once a text."""
        verdicts = self.tally.verdicts
        if text not in verdicts:
            self._charge(self.search.judge.cost)
            verdicts[text] = ask(self.search.judge.judge, [text])[0]
            unspent = self.search.judge.cost - verdicts[text].cost
            self.tally.forwards -= unspent
            self.tally.judged += verdicts[text].cost
        return verdicts[text]

    def confirms(self, text: Text, wanted: int | None) -> bool:
        """Tell whether the judge sees a text of another class, or of the wanted one."""
        tally, label = self.tally, self.example.label
        if text == self.example.text:
            return False
        if text not in tally.verdicts:
            if len(tally.verdicts) > self.search.judgements:  # the clean text is one of them
                return False
            predicted = self.judge(text).predicted
            tally.flips += 1
            # A victim without noise that takes its answer back is in doubt, too.
            noisy = self.search.redraw is not None
            tally.doubts += predicted is None if noisy else not reached(predicted, label, wanted)
        return reached(tally.verdicts[text].predicted, label, wanted)

    def get_grad(self, text: Text) -> dict[str, Any]:
        """Return the gradient for ranking words."""
        self._charge(1)
        found: dict[str, Any] = ask(self._plain.gradients, [text])[0]
        return found

    def tokenize(self, texts: Sequence[Text], strip_prefix: bool = False) -> list[list[str]]:
        """Return the tokens of each text."""
        found: list[list[str]] = self._plain.tokens(list(texts), strip_prefix)
        return found

    def _charge(self, forwards: int) -> None:
        limit = self.search.max_forwards
        if limit is not None and self.tally.forwards + forwards > limit:
            raise OverBudget
        self.tally.forwards += forwards


def reached(predicted: int | None, label: int, wanted: int | None) -> bool:
    """Tell whether a class is what the attack wants: the wanted one, or any but the label."""
    if predicted in (None, label):
        return False
    return wanted is None or predicted == wanted


def ready(attack: Any, port: Port) -> Any:
    """Return a copy of an attack that asks a port, and wins when its judge says so."""
    kind: Any = type(attack.goal_function)
    goal = object.__new__(_judged(kind))
    goal.__dict__.update(attack.goal_function.__dict__)
    # The port remembers what was asked, and forgets it when there is new noise.
    goal.use_cache, goal._call_model_cache = False, None
    goal.model, goal.batch_size, goal.allow_skip = port, BATCH, False
    return copy_attack(attack, goal)


def attack_example(attack: Any, port: Port, example: Example) -> Found:
    """Attack one example; the port must have turned to it.

    Args:
        attack: An attack that `ready` returned.
        port: Its port.
        example: The example.

    Raises:
        Interruption: If it may not go on.
        RobustNLPError: If the victim fails. What fails in TextAttack itself is an outcome.
    """
    if port.judge(example.text).predicted != example.label:
        port.tally.clean = port.tally.verdicts[example.text]
        return Found("skipped")
    port.tally.clean = port.tally.verdicts[example.text]
    if wanted_class(attack) == example.label:
        return Found("searched")  # the class that is wanted is there already
    attack.clear_cache()
    text: Any = example.text
    if not isinstance(text, str):
        text = OrderedDict(zip(COLUMNS, text, strict=True))
    try:
        result = attack.attack(text, int(example.label))
    except (RobustNLPError, MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # texts of odd characters end in errors of many kinds
        return Found("error", error=f"{type(error).__name__}: {error}")
    if type(result).__name__ != "SuccessfulAttackResult":
        return Found("searched")
    found = result.perturbed_result.attacked_text.tokenizer_input
    if port.confirms(found, wanted_class(attack)):
        return Found("found", found, port.tally.verdicts[found])
    return Found("searched")


def wanted_class(attack: Any) -> int | None:
    """Return the class that an attack wants, `None` for any but the label."""
    wanted = getattr(attack.goal_function, "target_class", None)
    return None if wanted is None else int(wanted)


def rehearse(attack: Any, plain: Any, *, pair: bool) -> str | None:
    """Attack a sentence with a victim that never gives way, to see whether anything is missing.

    Args:
        attack: The attack.
        plain: The victim that gives gradients, where an attack needs them.
        pair: Whether pairs are attacked.

    Returns:
        What went wrong, or `None`.
    """
    flat = _Flat()
    port = _Rehearsal(Search(scorer=flat, judge=flat, max_forwards=REHEARSED), plain)
    sentence = "This film is not a bad story , and the new cast was good in all of it ."
    try:
        with own_randomness(0):
            text: Text = (sentence, sentence) if pair else sentence
            port.begin(Example(0, text, 0))
            found = attack_example(ready(attack, port), port, Example(0, text, 0))
    except OverBudget:
        return None
    return found.error or None


class _Rehearsal(Port):
    """A port that also stops a search that asks for the same texts again and again."""

    def __call__(self, texts: Sequence[Text]) -> torch.Tensor:
        if self.tally.queries > REHEARSED:
            raise OverBudget
        return super().__call__(texts)


class _Flat:
    """A scorer and judge that sees the first of two classes everywhere."""

    cost = 1

    def score(self, questions: list[Question]) -> list[FloatArray]:
        return [np.log([0.9, 0.1]) for _ in questions]

    def judge(self, texts: list[Text]) -> list[Verdict]:
        return [Verdict(0) for _ in texts]


@cache
def _judged(kind: Any) -> Any:
    """Return a class of goals that scores as the port says, and asks the judge before it wins."""
    goals = textattack("goal_functions")
    results = textattack("goal_function_results.goal_function_result")
    status = results.GoalFunctionResultStatus

    class JudgedGoal(kind):  # type: ignore[misc]
        def _process_model_outputs(self, inputs: Any, scores: Any) -> Any:  # noqa: ARG002
            return scores

        def _get_score(self, output: Any, text: Any) -> Any:
            if isinstance(self, goals.UntargetedClassification):
                return self.model.goal_score(text.tokenizer_input)
            return super()._get_score(output, text)

        def get_results(self, texts: Any, check_skip: bool = False) -> Any:
            results, over = super().get_results(texts, check_skip=check_skip)
            if self.model.search.redraw is not None:  # without noise, the end is judged alone
                self._let_judge(results)
            return results, over

        def _let_judge(self, results: Any) -> None:
            """Leave the best of the flipped texts a flip, if the judge agrees, and no other."""
            flipped = [r for r in results if r.goal_status == status.SUCCEEDED]
            wanted = getattr(self, "target_class", None)
            for rank, result in enumerate(sorted(flipped, key=lambda r: -r.score)):
                text = result.attacked_text.tokenizer_input
                if rank > 0 or not self.model.confirms(text, wanted):
                    result.goal_status = status.SEARCHING

    JudgedGoal.__name__ = kind.__name__
    return JudgedGoal
