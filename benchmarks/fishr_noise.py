"""What the Fishr penalty measures with few rows per domain, and what takes the noise out of it.

    python benchmarks/fishr_noise.py [--draws 400] [--output benchmarks/results/fishr_noise.json]

Four domains of standard normal features (256) and random binary labels, and a fixed linear head of
two classes. Either the domains are alike, so that the penalty should be 0, or one of them has its
features scaled by 1.1. For each number of rows per domain: the plain penalty, the cross-split
estimator, both relative, and both of variances in a debiased moving average, of which the first
steps are left out. `population` is the penalty of infinitely many rows.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import torch
import typer

from robust_nlp.fishr.average import MovingAverage
from robust_nlp.fishr.batch import DomainBatch, domain_batch
from robust_nlp.fishr.diagnostics import diagnose
from robust_nlp.fishr.moments import gradient_variances, half_variances
from robust_nlp.fishr.penalty import spread
from robust_nlp.units import keyed_rng

DOMAINS, CLASSES = "abcd", 2


def head(hidden: int, seed: int) -> torch.Tensor:
    """Weights with which logits are a few units large."""
    rng = keyed_rng(seed, "fishr-noise-head")
    return torch.from_numpy(rng.standard_normal((CLASSES, hidden)) * 3.0 / hidden**0.5).float()


def batch_of(
    rng: np.random.Generator,
    rows: int,
    weight: torch.Tensor,
    *,
    shift: float,
    scale: float = 1.0,
) -> DomainBatch:
    """Draw rows for each domain; the features of the first are larger by `shift`.

    Args:
        rng: Source of the draw.
        rows: Rows per domain.
        weight: The head; shape `(classes, hidden)`.
        shift: Share by which features of the first domain are larger.
        scale: Unit of the features; the head's weights are in 1 / scale, so that logits stay.
    """
    domains = torch.arange(rows * len(DOMAINS)) // rows
    drawn = rng.standard_normal((len(domains), weight.shape[1]), dtype=np.float32)
    features = torch.from_numpy(drawn)
    features[domains == 0] *= 1.0 + shift
    labels = torch.from_numpy(rng.integers(CLASSES, size=len(domains)))
    return domain_batch(scale * features, features @ weight.T, labels, domains, bias=False)


@torch.no_grad()
def simulate(
    rows: int,
    *,
    shift: float,
    draws: int,
    gamma: float = 0.95,
    hidden: int = 256,
    seed: int = 0,
    scale: float = 1.0,
) -> dict[str, np.ndarray]:
    """Return the values of each estimator in each draw; of averages, in each draw when warm.

    Args:
        rows: Rows per domain, at least 4.
        shift: See `batch_of`, as for `scale`.
        draws: Independent batches.
        gamma: Weight of the past in the moving averages.
        hidden: Features.
        seed: Seed of everything.
        scale: Unit of the features.
    """
    weight = head(hidden, seed)
    averages = [MovingAverage(gamma, "debiased") for _ in range(3)]
    warm = round(4.0 / (1.0 - gamma))
    found: dict[str, list[float]] = {}
    for draw in range(draws + warm):
        rng = keyed_rng(seed, "fishr-noise", rows, round(1000 * shift), draw)
        batch = batch_of(rng, rows, weight, shift=shift, scale=scale)
        values = gradient_variances(batch, len(DOMAINS)).values
        halves = [half.values for half in half_variances(batch, len(DOMAINS))]
        pairs = {"plain": (values, values), "cross_split": (halves[0], halves[1])}
        mean, *means = (
            average.update(DOMAINS, each)
            for average, each in zip(averages, (values, *halves), strict=True)
        )
        pairs |= {"plain_averaged": (mean, mean), "cross_split_averaged": (means[0], means[1])}
        for name, (one, other) in pairs.items():
            if "averaged" in name and draw < warm:
                continue
            if "averaged" not in name and draw >= draws:
                continue
            found.setdefault(name, []).append(float(spread(one, other)))
            relative = float(spread(one, other, relative=True))
            found.setdefault(f"{name}_relative", []).append(relative)
        if draw < draws:
            diagnosis = diagnose(batch, list(DOMAINS))
            assert diagnosis.penalty is not None
            assert diagnosis.noise is not None
            found.setdefault("diagnosed_penalty", []).append(diagnosis.penalty)
            found.setdefault("diagnosed_noise", []).append(diagnosis.noise)
    return {name: np.array(values) for name, values in found.items()}


@torch.no_grad()
def population(
    *, shift: float, hidden: int = 256, seed: int = 0, rows: int = 8192, draws: int = 8
) -> dict[str, float]:
    """Estimate the penalty of infinitely many rows, plain and relative, by large cross-splits."""
    weight = head(hidden, seed)
    found = []
    for draw in range(draws):
        rng = keyed_rng(seed, "fishr-noise-population", round(1000 * shift), draw)
        halves = half_variances(batch_of(rng, rows, weight, shift=shift), len(DOMAINS))
        one, other = (half.values for half in halves)
        found.append([float(spread(one, other)), float(spread(one, other, relative=True))])
    plain, relative = np.mean(found, axis=0)
    return {"plain": float(plain), "relative": float(relative)}


def main(
    draws: int = 400,
    gamma: float = 0.95,
    shift: float = 0.1,
    hidden: int = 256,
    seed: int = 0,
    sizes: str = "4,8,16,32,64,128",
    output: Path | None = None,
) -> None:
    truth = population(shift=shift, hidden=hidden, seed=seed)
    typer.echo(f"population: {truth}")
    table = []
    for rows in map(int, sizes.split(",")):
        settings = {"draws": draws, "gamma": gamma, "hidden": hidden, "seed": seed}
        alike = simulate(rows, shift=0.0, **settings)
        shifted = simulate(rows, shift=shift, **settings)
        entry: dict[str, object] = {"rows_per_domain": rows}
        for name in alike:
            means = [float(values[name].mean()) for values in (alike, shifted)]
            errors = [float(values[name].std(ddof=1)) for values in (alike, shifted)]
            entry[name] = {"alike": means[0], "shifted": means[1]}
            if "averaged" not in name:  # averages of neighbouring steps are not independent
                root = draws**0.5
                entry[name] |= {"alike_se": errors[0] / root, "shifted_se": errors[1] / root}
            entry[name] |= {"alike_sd": errors[0], "shifted_sd": errors[1]}
            typer.echo(f"{rows:4} {name:30} alike {means[0]:9.2e} shifted {means[1]:9.2e}")
        table.append(entry)
    scales = {}
    for scale in (0.5, 1.0, 2.0, 4.0):
        values = simulate(
            32, shift=shift, draws=20, gamma=gamma, hidden=hidden, seed=seed, scale=scale
        )
        scales[str(scale)] = {
            name: float(values[name].mean())
            for name in ("plain", "cross_split", "plain_relative", "cross_split_relative")
        }
    if output is not None:
        result = {
            "draws": draws,
            "gamma": gamma,
            "shift": shift,
            "hidden": hidden,
            "domains": len(DOMAINS),
            "population": truth,
            "table": table,
            "feature_scales": scales,
            "seed": seed,
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        }
        output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
