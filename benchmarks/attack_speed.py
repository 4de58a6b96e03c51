"""Time attacks: TextAttack's own wrapper and Attacker against the suite, in one run.

    python benchmarks/attack_speed.py MODEL --texts FILE [--sample 60] [--attacks deepwordbug,pwws]

MODEL is a folder with a sequence classifier; FILE has JSON Lines with `text` and `label`. Both
sides attack the same texts with the same recipes and the same model in single precision. TextAttack
finds NLTK's data (stop words; for PWWS also WordNet) where NLTK_DATA says.

TextAttack attacks one text after another behind `HuggingFaceModelWrapper`, by its `Attacker`. The
suite's control experiments are left out of its time: TextAttack has none.

A question is a text that an attack asks the model about, as TextAttack counts them. Times are those
of the processor, which other work on the machine disturbs less than those of the clock; both are
written. Results must be identical for recipes that draw no random numbers. For the others, a third
run gives TextAttack's wrapper the suite's seeds, one for each text, and must be identical too.
"""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
import typer

from robust_nlp import HuggingFaceClassifier
from robust_nlp.attacks.recipes import build
from robust_nlp.attacks.search import Example, Port, Search
from robust_nlp.attacks.settings import NAMES
from robust_nlp.attacks.stage import Stage
from robust_nlp.attacks.victim import PlainVictim
from robust_nlp.augmentation.textattack_import import own_randomness, textattack, textattack_version
from robust_nlp.data import load_split
from robust_nlp.recipe import DataRecipe
from robust_nlp.units import keyed_rng

#: Recipes that draw no random numbers.
DETERMINISTIC = ("pwws", "textfooler")


class Clock:
    """Seconds of the processor and of the clock since it was made, and forwards of a model."""

    def __init__(self, model: Any) -> None:
        self.calls = self.rows = 0
        self._hook = model.register_forward_pre_hook(self._count, with_kwargs=True)
        self._start = time.process_time(), time.perf_counter()

    def _count(self, _model: Any, _args: Any, kwargs: Any) -> None:
        self.calls += 1
        self.rows += len(kwargs["input_ids"])

    def read(self, questions: int) -> dict[str, float]:
        self._hook.remove()
        cpu, wall = time.process_time() - self._start[0], time.perf_counter() - self._start[1]
        return {
            "cpu_seconds": cpu,
            "wall_seconds": wall,
            "questions": questions,
            "questions_per_cpu_second": questions / cpu,
            "questions_per_wall_second": questions / wall,
            "calls": self.calls,
            "rows_per_call": self.rows / max(1, self.calls),
        }


def outcome(result: Any) -> tuple[str, str | None, int]:
    kinds = {"SuccessfulAttackResult": "success", "SkippedAttackResult": "skipped"}
    kind = kinds.get(type(result).__name__, "failed")
    found = result.perturbed_result.attacked_text.text if kind == "success" else None
    return kind, found, 0 if kind == "skipped" else int(result.num_queries)


def theirs(classifier: HuggingFaceClassifier, name: str, examples: list[Example]) -> Any:
    """TextAttack as it is: wrapper, recipe, Attacker."""
    wrapper = textattack("models.wrappers").HuggingFaceModelWrapper(
        classifier.model, classifier.tokenizer
    )
    with own_randomness(0):
        attack = getattr(textattack("attack_recipes"), NAMES[name]).build(wrapper)
        data = textattack("datasets").Dataset([(e.text, e.label) for e in examples])
        arguments = textattack().AttackArgs(
            num_examples=len(examples), disable_stdout=True, silent=True, random_seed=0
        )
        attacker = textattack().Attacker(attack, data, arguments)
        clock = Clock(classifier.model)
        results = attacker.attack_dataset()
    return clock.read(sum(r.num_queries for r in results)), [outcome(r) for r in results]


def seeded(classifier: HuggingFaceClassifier, name: str, examples: list[Example]) -> Any:
    """TextAttack's wrapper and recipe, with a seed for each text."""
    wrapper = textattack("models.wrappers").HuggingFaceModelWrapper(
        classifier.model, classifier.tokenizer
    )
    with own_randomness(0):
        attack = getattr(textattack("attack_recipes"), NAMES[name]).build(wrapper)
    found = []
    limit, classifier.tokenizer.model_max_length = classifier.tokenizer.model_max_length, 128
    for example in examples:  # nobody times this
        with own_randomness(int(keyed_rng(0, "attack", name, example.id).integers(2**63))):
            found.append(outcome(attack.attack(example.text, example.label)))
    classifier.tokenizer.model_max_length = limit
    return found


def ours(classifier: HuggingFaceClassifier, name: str, examples: list[Example], width: int) -> Any:
    """The suite's engine: a fresh victim, and many texts in step."""
    victim = PlainVictim(classifier)
    search = Search(scorer=victim, judge=victim)
    attack = build(name, Port(search, victim))
    stage = Stage(
        name=name,
        attack=attack,
        search=search,
        plain=victim,
        protected="second",
        width=width,
        max_seconds=None,
        seed=0,
        identity="",
    )
    clock = Clock(classifier.model)
    rows = stage(examples, None, None)
    skipped = sum(not row.attacked for row in rows)  # which TextAttack counts as one question
    timing = clock.read(sum(row.queries for row in rows) + skipped)
    return timing, [(row.outcome, row.found, row.queries) for row in rows]


def main(
    model: Path,
    texts: str = typer.Option(..., help="JSON Lines with `text` and `label`."),
    sample: int = typer.Option(60, help="Texts, from the start."),
    attacks: str = "deepwordbug,pwws",
    width: int = 32,
    pad_to: int = typer.Option(0, help="What TextAttack pads to; 0 for the tokenizer's limit."),
    output: Path | None = None,
) -> None:
    classifier = HuggingFaceClassifier.from_pretrained(model, device="cpu")
    classifier.model.eval()
    split = load_split(DataRecipe(files={"test": texts}), "test", label_names=classifier.labels)
    assert split.labels is not None
    examples = [Example(i, split.texts[i], split.labels[i]) for i in range(min(sample, len(split)))]
    # TextAttack's wrapper would go beyond the model's positions.
    limit = min(classifier.tokenizer.model_max_length, classifier.max_length)
    classifier.tokenizer.model_max_length = pad_to or limit
    PlainVictim(classifier).logits([e.text for e in examples])  # warm up
    for name in attacks.split(","):
        reference, their_results = theirs(classifier, name, examples)
        engine, our_results = ours(classifier, name, examples, width)
        expected = their_results if name in DETERMINISTIC else seeded(classifier, name, examples)
        same = sum(a == b for a, b in zip(expected, our_results, strict=True))
        result = {
            "attack": name,
            "texts": len(examples),
            "mean_words": sum(len(str(e.text).split()) for e in examples) / len(examples),
            "width": width,
            "textattack": reference,
            "suite": engine,
            "ratio_cpu": engine["questions_per_cpu_second"] / reference["questions_per_cpu_second"],
            "ratio_wall": engine["questions_per_wall_second"]
            / reference["questions_per_wall_second"],
            "ratio_calls": reference["calls"] / engine["calls"],
            "identical": same,
            "compared_with": "Attacker" if name in DETERMINISTIC else "one seed a text",
            "outcomes": {
                side: {kind: sum(r[0] == kind for r in found) for kind in ("success", "failed")}
                for side, found in (("textattack", their_results), ("suite", our_results))
            },
            "padded_to": classifier.tokenizer.model_max_length,
            "threads": torch.get_num_threads(),
            "machine": platform.processor() or platform.machine(),
            "versions": {"torch": torch.__version__, "textattack": textattack_version()},
        }
        typer.echo(json.dumps(result, indent=1))
        for i, (a, b) in enumerate(zip(expected, our_results, strict=True)):
            if a != b:
                typer.echo(f"differs at {i}: {a} against {b}")
        if output is not None:
            entries = json.loads(output.read_text()) if output.exists() else []
            output.write_text(json.dumps([*entries, result], indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
