"""One attack on many examples: in step, kept on disk example by example, shared by processes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_nlp.attacks.lockstep import Ended, Job, OutOfTime, run
from robust_nlp.attacks.rows import AttackRow, distances
from robust_nlp.attacks.search import (
    SEEN,
    Example,
    Found,
    Port,
    Search,
    Tally,
    attack_example,
    ready,
)
from robust_nlp.attacks.smoothed import null_flip_rate
from robust_nlp.augmentation.ledger import read_results
from robust_nlp.augmentation.textattack_import import own_randomness
from robust_nlp.base_classifier import Side, parts
from robust_nlp.errors import DataError
from robust_nlp.files import open_behind_lines
from robust_nlp.units import keyed_rng, text_key


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One attack on many examples.

    Attributes:
        name: Name of the attack; its randomness is keyed by it.
        attack: The attack; see `robust_nlp.attacks.recipes.build`.
        search: How it asks and is judged.
        plain: The victim that gives gradients.
        protected: Which text of a pair is not attacked.
        width: Examples at once.
        max_seconds: Seconds per example at most; `None` for no limit.
        seed: Seed of the attacks, at least 0.
        identity: What decides the results besides examples and seed.
    """

    name: str
    attack: Any
    search: Search
    plain: Any
    protected: Side
    width: int
    max_seconds: float | None
    seed: int
    identity: str

    def key(self, example: Example) -> str:
        """Return what stands for the result of an example on disk."""
        whole = (str(self.seed), str(example.id), str(example.label), *parts(example.text))
        return text_key("attack", self.identity, *whole)

    def __call__(
        self, examples: Sequence[Example], folder: Path | None, processes: Any
    ) -> list[AttackRow]:
        """Attack examples; rows that the folder holds are not made again.

        Processes share the examples, and all return all rows; they need the folder for that.

        Raises:
            DataError: If another process did not do its part.
        """
        if folder is None:
            rows: dict[str, AttackRow] = {}
            self._attack(list(examples), lambda key, row: rows.update({key: row}))
            return [rows[self.key(example)] for example in examples]
        folder.mkdir(parents=True, exist_ok=True)
        done = read_results(folder)
        mine = examples[processes.process_index :: processes.num_processes]
        left = [example for example in mine if self.key(example) not in done]
        with open_behind_lines(folder / f"part-{processes.process_index:03d}.jsonl") as file:

            def write(key: str, row: AttackRow) -> None:
                file.write(json.dumps({"key": key, **dataclasses.asdict(row)}) + "\n")
                file.flush()

            self._attack(left, write)
        processes.wait_for_everyone()
        done = read_results(folder)
        keys = [self.key(example) for example in examples]
        missing = sum(key not in done for key in keys)
        if missing:
            raise DataError(
                f"{self.name}: {missing} of {len(keys)} rows are missing in {folder}: another "
                "process stopped early, or writes to another folder. Start again to go on"
            )
        return [AttackRow(**done[key]) for key in keys]

    def _attack(self, examples: list[Example], write: Any) -> None:
        from accelerate.utils import tqdm

        slots: dict[int, tuple[Any, Port]] = {}
        tallies: dict[int, Tally] = {}

        def jobs() -> Iterator[Job]:
            for example in examples:
                rng = keyed_rng(self.seed, "attack", self.name, example.id)
                yield Job(lambda slot, e=example: work(slot, e), int(rng.integers(2**63)))  # type: ignore[misc]

        def work(slot: int, example: Example) -> Found:
            if slot not in slots:
                port = Port(self.search, self.plain)
                slots[slot] = (ready(self.attack, port), port)
            attack, port = slots[slot]
            tallies[example.id] = port.begin(example)
            return attack_example(attack, port, example)

        def on_done(position: int, ended: Ended) -> None:
            example = examples[position]
            tally = tallies.pop(example.id, Tally())
            write(self.key(example), self._row(example, tally, ended))
            bar.update()

        # TextAttack warns about itself; what is seeded here are only the pieces between examples.
        with tqdm(total=len(examples), desc=self.name) as bar, own_randomness(0):
            run(jobs(), on_done, width=self.width, max_seconds=self.max_seconds)

    def _row(self, example: Example, tally: Tally, ended: Ended) -> AttackRow:
        found = ended.result
        values: dict[str, Any] = {}
        if isinstance(found, Found):
            if found.ending == "found":
                assert found.text is not None
                assert found.verdict is not None
                values = distances(example.text, found.text, self.protected)
                opened = found.text
                if not isinstance(opened, str):
                    opened = opened[1] if self.protected == "first" else opened[0]
                values |= {"found": opened, "found_predicted": found.verdict.predicted}
                outcome = "success"
            elif found.ending == "searched":
                outcome = "uncertain" if tally.doubts else "failed"
            else:
                outcome = found.ending
                values["error"] = found.error
        else:
            outcome = "timeout" if isinstance(found, OutOfTime) else "budget"
        clean = tally.clean
        if clean is not None and clean.counts and outcome != "skipped":
            values["null_flip"] = null_flip_rate(
                clean.counts,
                example.label,
                votes=self.search.scorer.cost,
                questions=tally.queries,
                rng=keyed_rng(self.seed, "null", example.id),
            )
        first, second = (example.text, None) if isinstance(example.text, str) else example.text
        return AttackRow(
            attack=self.name,
            example_id=example.id,
            label=example.label,
            outcome=outcome,  # type: ignore[arg-type]
            text=first,
            pair=second,
            clean_predicted=None if clean is None else clean.predicted,
            queries=tally.queries,
            forwards=tally.forwards,
            judge_forwards=tally.judged,
            flips=tally.flips,
            asked=tally.distinct,
            blind=tally.distinct >= 3 and tally.moved < SEEN,
            seconds=ended.seconds,
            **values,
        )


def identity(**values: Any) -> str:
    """Return settings as a text that is equal only if all are equal."""
    return json.dumps(values, sort_keys=True, default=str)
