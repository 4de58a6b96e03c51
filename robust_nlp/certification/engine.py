"""Cast the votes: few model calls, and the same counts however the work is arranged.

Each text is a small program that asks for the classes of noisy texts and goes on with the answers.
The engine collects what many texts ask for, leaves out what was classified before, and hands the
rest to the base classifier in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import beta

from robust_nlp.base_classifier import BaseClassifier, OpenText, Text, parts
from robust_nlp.certification.certificates import bounds_from_votes, radius_from_bounds
from robust_nlp.certification.plan import ExactPlan, FixedPlan, SamplingPlan, SequentialPlan
from robust_nlp.certification.votes import VoteCounts
from robust_nlp.mechanisms.base import FloatArray, IntArray, Law, Strata, TextMechanism
from robust_nlp.threats import Attacker
from robust_nlp.units import keyed_rng, text_key

#: Noisy texts that are drawn under one key.
CHUNK = 256

#: Inputs whose classes are remembered; the oldest are forgotten first.
CACHE_ENTRIES = 1_000_000

#: Index entries that the noisy texts of all open texts may take.
OPEN_ENTRIES = 50_000_000

#: Index entries in a table of enumerated noisy texts.
LARGEST_TABLE = 20_000_000

#: Index entries in the noisy texts that one text asks for at once.
LARGEST_REQUEST = 1_000_000

#: Probability of what was not enumerated below which it is given to the other classes, not sampled:
#: nearly all draws would have to be thrown away.
SMALLEST_SAMPLED = 1e-3

#: Selection votes of a sequential plan, in multiples of `n_selection`, while no class stands out.
MOST_SELECTION = 8

#: Share of its largest number of votes that a sequential plan is expected to use, and the tokens
#: that an input has besides its units: only speed depends on them.
EXPECTED_SHARE = 0.2
EXTRA_TOKENS = 3.0

Request = Sequence[Hashable]
Program = Generator[Request, IntArray, VoteCounts]


@dataclass(frozen=True, kw_only=True)
class VoteRecord:
    """The votes on one text, and what they cost.

    Attributes:
        votes: The votes; the same for any batch size, order of texts and number of processes.
        votes_asked: Noisy texts that were drawn or enumerated.
        votes_classified: Noisy texts that this text was the first to ask for, and so passes of
            the base classifier; it depends on which texts were classified before.
    """

    votes: VoteCounts
    votes_asked: int
    votes_classified: int


def cast_votes(
    base: BaseClassifier,
    mechanism: TextMechanism,
    texts: Sequence[Text],
    plan: SamplingPlan,
    *,
    seed: int,
    attacker: Attacker,
    on_done: Callable[[int, VoteRecord], None] | None = None,
    known: dict[Hashable, int] | None = None,
) -> list[VoteRecord]:
    """Cast the votes of a plan on noisy versions of each text.

    Args:
        base: The base classifier.
        mechanism: Draws the noisy texts.
        texts: Texts, or pairs of which one side is protected.
        plan: How many votes, and when to stop.
        seed: Seed; draws depend on it and on the text alone.
        attacker: Sequential plans stop when the radius against it is decided.
        on_done: Called with the position and the record of each text as it is finished.
        known: Answers of this base classifier by input; used, filled, and kept within bounds.

    Raises:
        ValueError: If the mechanism has no certificate against the attacker, or an exact plan
            meets a text with too many noisy versions.
    """
    mechanism.check_attacker(attacker)
    records: dict[int, VoteRecord] = {}
    known = {} if known is None else known
    runs: dict[int, _Run] = {}

    def step(position: int, run: _Run, answers: IntArray | None) -> None:
        votes = run.advance(answers)
        if votes is None:
            runs[position] = run
            return
        runs.pop(position, None)
        records[position] = VoteRecord(
            votes=votes, votes_asked=run.asked, votes_classified=run.classified
        )
        if on_done is not None:
            on_done(position, records[position])

    waiting = iter(enumerate(texts))
    while True:
        while sum(run.size for run in runs.values()) < OPEN_ENTRIES:
            position, text = next(waiting, (-1, ""))
            if position < 0:
                break
            opened = base.open(text, mechanism)
            key = text_key(*parts(text))
            program = _program(opened, key, mechanism, plan, len(base.labels), seed, attacker)
            step(position, _Run(program, opened.law.n_units), None)
        if not runs:
            break
        new: dict[Hashable, None] = {}
        for run in runs.values():
            before = len(new)
            new.update(dict.fromkeys(key for key in run.request if key not in known))
            run.classified += len(new) - before
        known.update(zip(new, base.classify(list(new)).tolist(), strict=True))
        for position, run in list(runs.items()):
            step(position, run, np.array([known[key] for key in run.request], np.int64))
        _forget(known, CACHE_ENTRIES)
    return [records[position] for position in range(len(texts))]


class _Run:
    """A text's program with its pending request and its costs."""

    def __init__(self, program: Program, n_units: int) -> None:
        self._program = program
        self.size = CHUNK * max(n_units, 1)
        self.request: Request = ()
        self.asked = 0
        self.classified = 0

    def advance(self, answers: IntArray | None) -> VoteCounts | None:
        """Hand in answers; return the votes once the program has ended."""
        try:
            self.request = next(self._program) if answers is None else self._program.send(answers)
        except StopIteration as end:
            votes: VoteCounts = end.value
            return votes
        self.asked += len(self.request)
        return None


def _program(
    opened: OpenText,
    key: str,
    mechanism: TextMechanism,
    plan: SamplingPlan,
    n_classes: int,
    seed: int,
    attacker: Attacker,
) -> Program:
    """Ask for the classes of one text's noisy versions until its plan is fulfilled."""
    law = opened.law
    n = law.n_units
    strata = law.strata()
    chosen = enumerated_strata(strata, n, plan)
    exact: FloatArray = np.zeros(n_classes)
    if chosen.any():
        tables = [law.enumerate(int(kept)) for kept in strata.kept[chosen]]
        sizes = [len(table) for table in tables]
        shares = np.repeat(strata.probability[chosen] / sizes, sizes)
        answers = yield opened.encode(np.concatenate(tables))
        exact += np.bincount(answers, weights=shares, minlength=n_classes)
        del tables, shares, answers
    remainder = 0.0 if chosen.all() else max(0.0, 1.0 - float(exact.sum()))

    def drawn(stage: str) -> _Draws:
        sampled = strata.kept[~chosen]
        return _Draws(law, sampled, seed, key, stage)

    def ask(draws: _Draws, size: int) -> Generator[Request, IntArray, IntArray]:
        counts: IntArray = np.zeros(n_classes, np.int64)
        while size > 0:
            rows = draws.take(min(size, max(CHUNK, LARGEST_REQUEST // max(n, 1))))
            size -= len(rows)
            counts += np.bincount((yield opened.encode(rows)), minlength=n_classes)
        return counts

    def counts(
        selection: IntArray, looks: list[tuple[int, ...]], schedule: tuple[int, ...]
    ) -> VoteCounts:
        return VoteCounts(
            n_units=n,
            exact=tuple(exact.tolist()),
            remainder=remainder,
            selection=tuple(selection.tolist()),
            looks=tuple(looks),
            schedule=schedule,
            profile=law.profile,
        )

    nothing = np.zeros(n_classes, np.int64)
    votes = counts(nothing, [], ())
    if isinstance(plan, ExactPlan) or remainder < SMALLEST_SAMPLED:
        return votes
    if isinstance(plan, SequentialPlan) and _settled(votes, plan, mechanism, attacker):
        return votes
    draws = drawn("selection")
    selection = yield from ask(draws, plan.n_selection)
    if isinstance(plan, SequentialPlan):
        most = plan.n_selection * MOST_SELECTION
        while selection.sum() < most and not _stands_out(exact, remainder, selection):
            selection = selection + (yield from ask(draws, plan.n_selection))
    schedule = (
        (plan.n_estimation,)
        if isinstance(plan, FixedPlan)
        else plan.schedule(_precision_votes(exact, remainder, selection, plan.max_votes))
    )
    draws, total, looks = drawn("estimation"), nothing, []
    for look, size in enumerate(schedule):
        before = schedule[look - 1] if look else 0
        total = total + (yield from ask(draws, size - before))
        looks.append(tuple(total.tolist()))
        votes = counts(selection, looks, schedule)
        if isinstance(plan, SequentialPlan) and _settled(votes, plan, mechanism, attacker):
            break
    return votes


class _Draws:
    """A stream of noisy texts of some strata that depends on seed, text and stage alone."""

    def __init__(
        self,
        law: Law,
        strata: IntArray,
        seed: int,
        key: str,
        stage: str,
    ) -> None:
        self._rows = self._stream(law, strata, seed, key, stage)
        self._left = next(self._rows)

    def take(self, size: int) -> IntArray:
        """Return the next noisy texts of the stream."""
        while len(self._left) < size:
            self._left = np.concatenate([self._left, next(self._rows)])
        taken, self._left = self._left[:size], self._left[size:].copy()
        return taken

    @staticmethod
    def _stream(law: Law, strata: IntArray, seed: int, key: str, stage: str) -> Iterator[IntArray]:
        chunk = 0
        while True:
            rows = law.draw(CHUNK, keyed_rng(seed, key, stage, chunk))
            yield rows[np.isin(law.kept_counts(rows), strata)]
            chunk += 1


def enumerated_strata(
    strata: Strata, n_units: int, plan: SamplingPlan
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Choose the strata whose noisy texts are all classified; the others are sampled.

    The choice depends on the length of the text and the plan, never on a vote.

    Returns:
        Which strata to enumerate; shape `(strata,)`.

    Raises:
        ValueError: If an exact plan would have to classify more noisy texts than it allows.
    """
    nothing = np.zeros(len(strata.kept), np.bool_)
    total = float(strata.outcomes.sum())
    if isinstance(plan, ExactPlan):
        if total > plan.max_outcomes or total * n_units > LARGEST_TABLE:
            raise ValueError(
                f"a text of {n_units} units has {total:.4g} noisy versions, but the exact plan "
                f"allows max_outcomes={plan.max_outcomes}; use a sequential or a fixed plan"
            )
        return ~nothing
    if not plan.enumerate_when_cheaper:
        return nothing
    if isinstance(plan, FixedPlan):
        return nothing if total > plan.n_selection + plan.n_estimation else ~nothing
    # Enumerate the strata whose single noisy texts are the most probable, as many as give the
    # least expected number of tokens.
    order = np.argsort(-(strata.probability / strata.outcomes), kind="stable")
    kept, probability = strata.kept[order], strata.probability[order]
    outcomes = np.minimum(strata.outcomes[order], LARGEST_TABLE + 1.0)
    tokens = EXTRA_TOKENS + kept
    enumerated = np.concatenate([[0.0], np.cumsum(outcomes * tokens)])
    left = np.clip(1.0 - np.concatenate([[0.0], np.cumsum(probability)]), 0.0, 1.0)
    left[-1] = 0.0
    left_tokens = np.concatenate([np.cumsum((probability * tokens)[::-1])[::-1], [0.0]])
    mean_tokens = np.divide(left_tokens, left, out=np.zeros_like(left), where=left > 0.0)
    sampled = np.where(
        left > 0.0, plan.n_selection + EXPECTED_SHARE * plan.max_votes * left**2, 0.0
    )
    size = np.concatenate([[0.0], np.cumsum(outcomes)]) * max(n_units, 1)
    cost = np.where(size <= LARGEST_TABLE, enumerated + sampled * mean_tokens, np.inf)
    chosen = nothing.copy()
    chosen[order[: int(cost.argmin())]] = True
    return chosen


def _stands_out(exact: FloatArray, remainder: float, selection: IntArray) -> bool:
    """Tell whether the leading class leads by two standard errors of the selection votes."""
    share = selection / selection.sum()
    estimate = exact + remainder * share
    second, top = np.argsort(estimate, kind="stable")[-2:]
    spread = share[top] + share[second] - (share[top] - share[second]) ** 2
    error = remainder * np.sqrt(spread / selection.sum())
    return bool(estimate[top] - estimate[second] >= 2.0 * error)


def _precision_votes(
    exact: FloatArray, remainder: float, selection: IntArray, max_votes: int
) -> int:
    """Votes on the remainder that give the precision of `max_votes` votes on the whole law.

    Depends on selection votes only, so that it may fix the schedule. At most the votes that would
    have fallen on the remainder anyway.
    """
    drawn = int(selection.sum())
    top = int((exact + remainder * selection / drawn).argmax())
    inside = (selection[top] + 1.0) / (drawn + 2.0)
    whole = exact[top] + remainder * inside
    variance = whole * (1.0 - whole)
    share = remainder**2 * inside * (1.0 - inside) / variance if variance > 0.0 else remainder
    return max(1, int(np.ceil(max_votes * min(remainder, share))))


def _settled(
    votes: VoteCounts, plan: SequentialPlan, mechanism: TextMechanism, attacker: Attacker
) -> bool:
    """Tell whether more votes could hardly raise the radius; any answer keeps the guarantee."""

    def radius(counts: VoteCounts) -> int:
        bounds = bounds_from_votes(counts, alpha=plan.alpha)
        return radius_from_bounds(bounds, mechanism, counts, attacker=attacker)

    now = radius(votes)
    if plan.max_radius is not None and now >= plan.max_radius:
        return True
    return radius(_hopeful(votes, plan.futility)) <= now


def _hopeful(votes: VoteCounts, futility: float) -> VoteCounts:
    """Continue votes to the last look as well as they may go with probability `futility`."""
    top = votes.top
    if not votes.looks:
        exact = [mass + votes.remainder * (i == top) for i, mass in enumerate(votes.exact)]
        return replace(votes, exact=tuple(exact), remainder=0.0)
    counts = np.array(votes.looks[-1])
    total, successes = int(counts.sum()), int(counts[top])
    rate = float(beta.ppf(1.0 - futility, successes + 0.5, total - successes + 0.5))
    looks = list(votes.looks)
    for size in votes.schedule[len(looks) :]:
        gained = int(np.ceil(rate * (size - total)))
        others = np.floor((size - total - gained) * counts / max(1, total - successes))
        future = counts + np.where(np.arange(len(counts)) == top, 0, others).astype(np.int64)
        future[top] += size - int(future.sum())
        looks.append(tuple(future.tolist()))
    return replace(votes, looks=tuple(looks))


def _forget(known: dict[Hashable, int], limit: int) -> None:
    """Drop the oldest half of what is remembered when it has more than `limit` entries."""
    if len(known) > limit:
        for key in list(known)[: len(known) // 2]:
            del known[key]
