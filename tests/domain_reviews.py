"""A tiny classifier, and tokenized texts of three domains to train it on."""

from __future__ import annotations

import gc
from functools import cache
from pathlib import Path
from typing import Any

import torch
from conftest import tiny_tokenizer
from transformers import BertConfig, BertForSequenceClassification, Trainer

from robust_nlp.fishr.config import FishrConfig
from robust_nlp.fishr.trainer import FishrTrainer
from robust_nlp.units import keyed_rng

# Every training collects garbage. Nothing that was imported is any, and looking at it takes longer
# than the training.
gc.freeze()

WORDS = ["good", "bad", "film", "plot", "story", "cast", "was", "the", "a", "is", "and"]
tokenizer = cache(tiny_tokenizer)
SIZES = {"books": 60, "dvd": 40, "air": 28}


def reviews(sizes: dict[str, int] | None = None, *, seed: int = 0, classes: int = 2) -> list[dict]:
    """Rows of token ids, a label and a domain, of different lengths."""
    encode, rng = tokenizer(), keyed_rng(seed, "reviews")
    rows = []
    for domain, size in (sizes or SIZES).items():
        for i in range(size):
            label = i % classes
            words = rng.choice(WORDS, int(rng.integers(3, 9))).tolist()
            words[0] = WORDS[label]
            row = encode(" ".join(words))
            rows.append({**row, "label": label, "domain": domain})
    return rows


def model(*, dropout: float = 0.0, seed: int = 0, **settings: Any) -> BertForSequenceClassification:
    config = BertConfig(
        vocab_size=200,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.2,
        **settings,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertForSequenceClassification(config)


def config(folder: Path, **settings: Any) -> FishrConfig:
    defaults: dict[str, Any] = {
        "per_device_train_batch_size": 24,
        "max_steps": 2,
        "learning_rate": 0.2,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 1e9,
        "ramp_start": 0.0,
        "ramp_end": 0.0,
        "penalty_weight": 2000.0,
        "rows_per_domain": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    return FishrConfig(output_dir=str(folder), **{**defaults, **settings})


def trainer(folder: Path, *, data: Any = None, settings: dict | None = None, **kwargs: Any):
    kwargs = {"model": model(), "train_dataset": data or reviews(), **kwargs}
    return FishrTrainer(
        args=config(folder, **(settings or {})), processing_class=tokenizer(), **kwargs
    )


def weights(trained: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trained.model.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], **closeness: float) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], **(closeness or {"rtol": 0, "atol": 0}))


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of a number."""
    return max(float((a[name] - b[name]).abs().max()) for name in a)
