"""Time certification: the way reference implementations do it against the engine, in one run.

    python benchmarks/certify_speed.py RUN --texts FILE [--p-del 0.9] [--sample 20]

RUN is a folder with a classifier trained under the noise (`benchmarks/sst2_deletion.py train`).
Both sides certify the same texts with the same base classifier, mechanism and alpha.

Reference (CERT-ED, RanMASK): one text at a time; every noisy string is built and tokenized, batches
are padded to their longest text, 1,000 votes choose the class and 4,000 bound it (alpha 0.05), or
100 and 100,000 (alpha 0.001; timed on the first `--timed-votes` votes of each text and
extrapolated in proportion; its radii then come from 100,100 votes cast by our engine, which
follow the same law).
"""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer

from robust_nlp import (
    FixedPlan,
    HuggingFaceClassifier,
    RandomizedDeletion,
    SequentialPlan,
    SmoothedClassifier,
    VoteCounts,
    certificate_from_votes,
)
from robust_nlp.certification.certificates import bounds_from_votes
from robust_nlp.data import load_split
from robust_nlp.recipe import DataRecipe


class Meter:
    """Count the forward passes, tokens and operations of a model."""

    def __init__(self, model: Any) -> None:
        config = model.config
        layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
        self._weights = config.num_hidden_layers * layer
        self._attention = config.num_hidden_layers * 2 * config.hidden_size
        self.reset()
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def reset(self) -> None:
        self.rows = self.tokens = self.flops = 0

    def _count(self, _model: Any, _args: Any, kwargs: Any) -> None:
        rows, length = kwargs["input_ids"].shape
        self.rows += rows
        self.tokens += rows * length
        self.flops += 2 * rows * length * (self._weights + self._attention * length)

    def read(self) -> dict[str, int]:
        return {"forwards": self.rows, "tokens": self.tokens, "flops": self.flops}


@torch.inference_mode()
def reference_counts(
    base: HuggingFaceClassifier, text: str, p_del: float, votes: int, rng: np.random.Generator
) -> np.ndarray:
    """Votes as reference implementations cast them."""
    words = np.array(text.split(), dtype=object)
    counts = np.zeros(len(base.labels), np.int64)
    for start in range(0, votes, 100):
        size = min(100, votes - start)
        noisy = [" ".join(words[rng.random(len(words)) >= p_del]) for _ in range(size)]
        batch = base.tokenizer(
            noisy, padding=True, truncation=True, max_length=base.max_length, return_tensors="pt"
        )
        predicted = base.model(**batch).logits.argmax(dim=1).numpy()
        counts += np.bincount(predicted, minlength=len(counts))
    return counts


def matmul_rate(hidden: int, inner: int) -> float:
    """Operations per second of the layers' largest product, the best of several tries."""
    a, b = torch.randn(2048, hidden), torch.randn(hidden, inner)
    best = np.inf
    for _ in range(30):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * 2048 * hidden * inner / best


def main(
    run: Path,
    texts: str = typer.Option(..., help="JSON Lines with `text` and `label`."),
    p_del: float = 0.9,
    sample: int = typer.Option(20, help="Texts that both sides certify."),
    alpha: float = 0.05,
    selection: int = 1000,
    estimation: int = 4000,
    timed_votes: int = typer.Option(0, help="Votes of the reference that are timed; 0 for all."),
    seed: int = 0,
    output: Path | None = None,
) -> None:
    base = HuggingFaceClassifier.from_pretrained(run, device="cpu", max_length=128)
    base.model.eval()
    mechanism = RandomizedDeletion(p_del=p_del)
    smoothed = SmoothedClassifier(base, mechanism)
    split = load_split(DataRecipe(files={"test": texts}), "test", label_names=base.labels)
    rng = np.random.Generator(np.random.Philox(seed))
    few = [split.texts[i] for i in sorted(rng.choice(len(split), sample, replace=False).tolist())]
    plan = SequentialPlan(alpha=alpha, max_votes=estimation)
    meter = Meter(base.model)
    bounds_from_votes(  # boundaries are computed once per process and alpha
        VoteCounts(
            n_units=9,
            exact=(0.0, 0.0),
            remainder=1.0,
            selection=(1, 0),
            looks=tuple((n, 0) for n in plan.schedule(estimation)),
            schedule=plan.schedule(estimation),
        ),
        alpha=alpha,
    )

    rate = matmul_rate(base.model.config.hidden_size, base.model.config.intermediate_size)
    votes = timed_votes or selection + estimation
    scale = (selection + estimation) / votes
    reference: list[dict[str, float]] = []
    radii: list[int] = []
    ours: list[dict[str, float]] = []
    our_radii: list[int] = []

    def radius(counts: VoteCounts) -> int:
        found = certificate_from_votes(counts, mechanism, alpha=alpha).radius
        return -1 if found is None else found

    for text in few:  # the two sides in turn, so that both meet the same machine
        meter.reset()
        start = time.perf_counter()
        picked = reference_counts(base, text, p_del, min(selection, votes), rng)
        counted = reference_counts(base, text, p_del, votes - min(selection, votes), rng)
        seconds = time.perf_counter() - start
        reference.append(
            {"seconds": seconds * scale, **{k: v * scale for k, v in meter.read().items()}}
        )
        if scale == 1.0:
            radii.append(
                radius(
                    VoteCounts(
                        n_units=len(text.split()),
                        exact=(0.0,) * len(base.labels),
                        remainder=1.0,
                        selection=tuple(picked.tolist()),
                        looks=(tuple(counted.tolist()),),
                        schedule=(estimation,),
                    )
                )
            )
        meter.reset()
        start = time.perf_counter()
        (record,) = smoothed.votes([text], plan, seed=seed)
        ours.append({"seconds": time.perf_counter() - start, **meter.read()})
        our_radii.append(radius(record.votes))
    if scale != 1.0:
        fixed = FixedPlan(
            alpha=alpha,
            n_selection=selection,
            n_estimation=estimation,
            enumerate_when_cheaper=False,
        )
        radii = [radius(record.votes) for record in smoothed.votes(few, fixed, seed=seed + 1)]

    meter.reset()
    start = time.perf_counter()
    records = smoothed.votes(few, plan, seed=seed)
    together = {"seconds": time.perf_counter() - start, **meter.read()}
    assert [radius(r.votes) for r in records] == our_radii, "votes depend on company"
    # Both sides' bounds rest on their own draws, so radii differ by chance. What the sequential
    # bounds cost may be a tenth of the mean radius, beyond two standard errors of this sample.
    lost = np.array(radii) - np.array(our_radii)
    error = float(lost.std(ddof=1) / np.sqrt(len(lost)))
    assert lost.mean() - 2 * error <= 0.1 * max(1.0, float(np.mean(radii))), (radii, our_radii)
    assert np.abs(lost).max() <= 1, (radii, our_radii)

    def per_text(rows: list[dict[str, float]], key: str) -> float:
        return float(np.mean([row[key] for row in rows]))

    one = [r["seconds"] / o["seconds"] for r, o in zip(reference, ours, strict=True)]
    tokens = [r["tokens"] / max(o["tokens"], 1) for r, o in zip(reference, ours, strict=True)]
    seconds = together["seconds"] / len(few)
    result = {
        "p_del": p_del,
        "alpha": alpha,
        "reference_votes": selection + estimation,
        "reference_votes_timed": votes,
        "texts": len(few),
        "reference_texts_per_second": 1.0 / per_text(reference, "seconds"),
        "ours_texts_per_second": len(few) / together["seconds"],
        "reference_seconds_per_text": per_text(reference, "seconds"),
        "reference_tokens_per_text": per_text(reference, "tokens"),
        "ours_seconds_per_text_alone": per_text(ours, "seconds"),
        "ours_seconds_per_text": seconds,
        "ours_tokens_per_text": together["tokens"] / len(few),
        "ours_forwards_per_text": together["forwards"] / len(few),
        "ours_votes_per_text": float(np.mean([record.votes_asked for record in records])),
        "ratio_total": per_text(reference, "seconds") / seconds,
        "ratio_total_alone": per_text(reference, "seconds") / per_text(ours, "seconds"),
        "ratio_median_text_alone": float(np.median(one)),
        "ratio_total_tokens": per_text(reference, "tokens") / (together["tokens"] / len(few)),
        "ratio_median_text_tokens": float(np.median(tokens)),
        "mean_radius_reference": float(np.mean(radii)),
        "mean_radius_ours": float(np.mean(our_radii)),
        "radius_equal_or_larger": float(np.mean(np.array(our_radii) >= np.array(radii))),
        "matmul_gflops": rate / 1e9,
        "floor_seconds_per_text": together["flops"] / len(few) / rate,
        "share_of_floor_reached": together["flops"] / rate / together["seconds"],
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "seed": seed,
    }
    for key, value in result.items():
        typer.echo(f"{key:32} {value:.4g}" if isinstance(value, float) else f"{key:32} {value}")
    if output is not None:
        entries = json.loads(output.read_text()) if output.exists() else []
        output.write_text(json.dumps([*entries, result], indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
