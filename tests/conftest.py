"""No network, no caches at home, and a tiny classifier that is built on the spot."""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from robust_nlp.recipe import Recipe

_home = tempfile.TemporaryDirectory(prefix="robust-nlp-tests-")

# Before anything imports a Hugging Face library.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_HOME=_home.name,
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
)

# The same examples in every run, on machines however slow.
settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")

GOOD = ("good", "great", "fine", "lovely", "brilliant", "enjoyable")
BAD = ("bad", "awful", "poor", "boring", "dreadful", "tedious")
NEUTRAL = ("the", "a", "film", "plot", "is", "was", "and", "very", "cast", "story", "it", "this")


@pytest.fixture(scope="session")
def tiny_classifier_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers and sixteen dimensions whose random weights tell texts apart."""
    return tiny_bert(
        tmp_path_factory.mktemp("tiny-classifier"),
        num_hidden_layers=2,
        initializer_range=0.7,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
    )


def launch_two(script: str | Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script of the project in two processes, to its end."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launch, "--nproc_per_node", "2", script, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


#: Settings of a BERT without dropout.
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def tiny_bert(
    folder: Path, model: str = "BertForSequenceClassification", *, seed: int = 0, **settings
) -> Path:
    """Write a BERT of sixteen dimensions, with the same random weights in every run."""
    import torch
    import transformers

    tokenizer = tiny_tokenizer()
    config = transformers.BertConfig(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 64,
            **settings,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        getattr(transformers, model)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_tokenizer():
    """WordPiece over a few words, letters and punctuation."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = list(string.ascii_lowercase + string.digits)
    words = [*GOOD, *BAD, *(word for word in NEUTRAL if len(word) > 1)]
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *string.punctuation]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *words])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.fixture(scope="session")
def tiny_texts() -> list[str]:
    """Twenty-four short reviews in random words, two of them alike, one empty."""
    import numpy as np

    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 16, size=22)
    texts = [" ".join(rng.choice([*GOOD, *BAD, *NEUTRAL], size=n)) for n in lengths]
    return [*texts, texts[3], ""]


@pytest.fixture(scope="session")
def tiny_recipe(
    tiny_classifier_dir: Path, tiny_texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Recipe:
    """Certify the tiny texts with the tiny classifier, in parts of eight."""
    from robust_nlp.recipe import recipe_from_dict

    data = tmp_path_factory.mktemp("data") / "tiny.jsonl"
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(tiny_texts)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return recipe_from_dict(
        {
            "name": "tiny",
            "model": {"base": str(tiny_classifier_dir), "device": "cpu"},
            "data": {"files": dict.fromkeys(["train", "validation", "test"], str(data))},
            "mechanism": {"kind": "randomized_deletion", "p_del": 0.7},
            "certify": {
                "plan": {"kind": "fixed", "n_selection": 10, "n_estimation": 40, "alpha": 0.01},
                "part_size": 8,
            },
        }
    )
