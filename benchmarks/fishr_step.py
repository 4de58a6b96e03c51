"""Time Fishr: steps in closed form and with per-example gradients, and whole trainings.

    python benchmarks/fishr_step.py [--batch 32] [--length 64] [--steps 15] [--trainings 7]
                                    [--output FILE]

The three kinds of step are taken in turn, in an order that changes from round to round, with the
same model, batch, optimizer and weight of the penalty, so that all meet the same machine; ratios
are medians over rounds of the ratios to the plain step of the same round. Per-example gradients
are those of torch.func (vmap of grad) by the parameters of the last layer, differentiated again.
Before that, the penalty alone, forward and backward, for heads of several sizes. After it, eight
steps of a `FishrTrainer`, with penalty, sampler, logs and warnings, against eight of a `Trainer`;
also with two accumulated batches a step, of which "exact" reads each batch once more.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
import typer
from torch import Tensor
from torch.func import grad, vmap
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

from robust_nlp.embedded import resolve_base
from robust_nlp.fishr.batch import domain_batch, one_process
from robust_nlp.fishr.config import FishrConfig
from robust_nlp.fishr.head import HeadCapture
from robust_nlp.fishr.objectives import Fishr
from robust_nlp.fishr.penalty import fishr_penalty, spread
from robust_nlp.fishr.state import ObjectiveState
from robust_nlp.fishr.trainer import FishrTrainer
from robust_nlp.units import keyed_rng

#: Rows, hidden size, classes and domains of heads that are timed by themselves.
HEADS = ((32, 768, 2, 4), (64, 768, 5, 4), (128, 1024, 3, 8), (128, 768, 150, 4), (64, 4096, 5, 4))

#: Optimizer steps of one whole training.
STEPS = 8


def per_example_penalty(
    features: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, domains: Tensor
) -> Tensor:
    """The penalty by gradients of each row, shape `(rows, classes, hidden)`."""

    def of_one(w: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy((x @ w.T + b)[None], y[None])

    by_weight, by_bias = vmap(grad(of_one, argnums=(0, 1)), in_dims=(None, None, 0, 0))(
        weight, bias, features, labels
    )
    gradients = torch.cat([by_weight.flatten(1), by_bias], dim=1)
    present = domains.unique().tolist()
    values = torch.stack([gradients[domains == e].var(dim=0, unbiased=False) for e in present])
    return spread(values, values)


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rounds(works: dict[str, Callable[[], Any]], n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Time each work once per round; return seconds, and ratios to the first work."""
    for work in works.values():  # what is only done once
        work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(n):
        for name in rng.permutation(list(works)).tolist():
            seconds[name].append(timed(works[name]))
    first = np.array(seconds[next(iter(works))])
    result: dict[str, Any] = {}
    for name, values in seconds.items():
        ratios = np.array(values) / first
        result[name] = {
            "seconds_median": float(np.median(values)),
            "seconds_min": float(np.min(values)),
            "ratio_median": float(np.median(ratios)),
            "ratio_quartiles": [float(q) for q in np.quantile(ratios, [0.25, 0.75])],
            "ratio_of_min": float(np.min(values) / first.min()),
        }
        typer.echo(f"  {name:32} {np.median(values):10.5f} s   x {np.median(ratios):.4f}")
    return result


def heads(repeats: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Time the penalty alone, forward and backward to the features."""
    table = []
    for rows, hidden, classes, n_domains in HEADS:
        typer.echo(f"{rows} rows, {hidden} features, {classes} classes, {n_domains} domains")

        def numbers(*shape: int) -> Tensor:
            return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))

        features = numbers(rows, hidden).requires_grad_()
        weight, bias = (0.05 * numbers(classes, hidden)).requires_grad_(), torch.zeros(classes)
        labels = torch.from_numpy(rng.integers(classes, size=rows))
        domains = torch.arange(rows) % n_domains
        arguments = features, weight, bias, labels, domains

        def closed(x: Tensor, w: Tensor, b: Tensor, y: Tensor, e: Tensor) -> Tensor:
            return fishr_penalty(x, F.linear(x, w, b), y, e)

        one, other = closed(*arguments), per_example_penalty(*arguments)
        torch.testing.assert_close(one, other, rtol=1e-3, atol=0.0)
        found = rounds(
            {
                name: lambda penalty=penalty, a=arguments: torch.autograd.grad(penalty(*a), a[:2])
                for name, penalty in (
                    ("closed form", closed),
                    ("per-example gradients", per_example_penalty),
                )
            },
            repeats,
            rng,
        )
        sizes = {"rows": rows, "hidden": hidden, "classes": classes, "domains": n_domains}
        table.append({**sizes, **found})
    return table


def steps(
    model_name: str, batch: int, length: int, n_domains: int, repeats: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Time whole training steps of a classifier."""
    model = AutoModelForSequenceClassification.from_pretrained(
        resolve_base(model_name), num_labels=2
    ).train()
    capture = HeadCapture(model)
    layer = model.classifier
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    ids = torch.from_numpy(rng.integers(1000, model.config.vocab_size, size=(batch, length)))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    labels = torch.from_numpy(rng.integers(2, size=batch))
    domains = torch.arange(batch) % n_domains
    names = [str(domain) for domain in range(n_domains)]
    objective, state = Fishr(), ObjectiveState()

    def step(loss_of: Callable[[], Tensor]) -> None:
        loss = loss_of()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def plain() -> Tensor:
        return F.cross_entropy(model(**inputs).logits, labels)

    def closed_form() -> Tensor:
        with capture.watching():
            logits = model(**inputs).logits
        head = capture.rows(logits)
        rows = domain_batch(head.features, logits, labels, domains, bias=head.bias)
        return objective(rows, names, state, 1.0, one_process).loss

    def per_example() -> Tensor:
        with capture.watching():
            logits = model(**inputs).logits
        features = capture.rows(logits).features
        penalty = per_example_penalty(features, layer.weight, layer.bias, labels, domains)
        return F.cross_entropy(logits, labels) + penalty

    works = {
        "plain": plain,
        "Fishr in closed form": closed_form,
        "Fishr by per-example gradients": per_example,
    }
    typer.echo(f"steps of {model_name}: {batch} texts of {length} tokens, {n_domains} domains")
    return rounds(
        {name: lambda loss_of=loss_of: step(loss_of) for name, loss_of in works.items()},
        repeats,
        rng,
    )


def trainings(
    model_name: str, batch: int, length: int, n_domains: int, repeats: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Time trainings of a few steps, by `Trainer` and by `FishrTrainer`."""
    ids = rng.integers(1000, 30000, size=(STEPS * batch, length)).tolist()
    rows = [
        {
            "input_ids": row,
            "attention_mask": [1] * length,
            "label": i % 2,
            "domain": str(i // 2 % n_domains),
        }
        for i, row in enumerate(ids)
    ]

    def made(folder: str, *, fishr: bool, batches: int) -> Callable[[], Any]:
        model = AutoModelForSequenceClassification.from_pretrained(
            resolve_base(model_name), num_labels=2
        )
        shared: dict[str, Any] = {
            "output_dir": folder,
            "max_steps": STEPS,
            "per_device_train_batch_size": batch // batches,
            "gradient_accumulation_steps": batches,
            "learning_rate": 1e-6,
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
            "save_strategy": "no",
            "logging_strategy": "no",
        }
        if fishr:
            args = FishrConfig(**shared, objective="fishr", ramp_start=0.0, ramp_end=0.0)
            return FishrTrainer(model, args, train_dataset=rows).train
        return Trainer(model, TrainingArguments(**shared), train_dataset=rows).train

    found = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what random texts and few rows a domain say
        for batches in (1, 2):
            typer.echo(f"trainings of {STEPS} steps, {batches} batches each")
            works = {
                "Trainer": made(folder, fishr=False, batches=batches),
                "FishrTrainer": made(folder, fishr=True, batches=batches),
            }
            found[f"{batches} batches a step"] = rounds(works, repeats, rng)
    return found


def main(
    model: str = "embedded:minilm",
    batch: int = 32,
    length: int = 64,
    domains: int = 4,
    step_rounds: int = typer.Option(15, "--steps", help="Rounds of the three kinds of step."),
    training_rounds: int = typer.Option(7, "--trainings", help="Rounds of whole trainings."),
    head_rounds: int = typer.Option(30, "--heads", help="Rounds for each size of a head."),
    threads: int = 1,
    seed: int = 0,
    output: Path | None = None,
) -> None:
    torch.set_num_threads(threads)
    rng = keyed_rng(seed, "fishr-step")
    result = {
        "heads": heads(head_rounds, rng),
        "steps": steps(model, batch, length, domains, step_rounds, rng),
        "trainings": trainings(model, batch, length, domains, training_rounds, rng),
        "model": model,
        "batch": batch,
        "length": length,
        "domains": domains,
        "rounds": {"steps": step_rounds, "trainings": training_rounds, "heads": head_rounds},
        "threads": threads,
        "machine": platform.processor() or platform.machine(),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "seed": seed,
    }
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
