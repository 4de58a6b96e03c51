"""Every mechanism with every family of models: the votes are those of the plain strings."""

from __future__ import annotations

import pytest
import torch
from tiny import ARCHITECTURES, byte_level_bpe, tiny_model

from robust_nlp import CallableClassifier, HuggingFaceClassifier, SmoothedClassifier
from robust_nlp.certification.plan import FixedPlan
from robust_nlp.errors import ModelError
from robust_nlp.mechanisms import (
    AdaptiveDeletion,
    BagDeletion,
    CombinedNoise,
    ExponentialSubstitution,
    GaussianEmbedding,
    RandomizedDeletion,
    RandomMasking,
    Reordering,
    SynonymSmoothing,
    TextMechanism,
)

DECODERS = ("GPT2", "Llama", "Qwen2")
REARRANGING = ("XLNet",)
#: One encoder and one decoder are tried every time.
SLOW = [
    pytest.param(name, marks=() if name in ("Bert", "GPT2") else pytest.mark.slow)
    for name in ARCHITECTURES
]

TEXTS = ["the film isn't good , it's brilliant !", "a bad story", ""]
PLAN = FixedPlan(n_selection=4, n_estimation=12, alpha=0.05, enumerate_when_cheaper=False)
SWAPS = {"good": ["fine", "lovely"], "bad": ["poor", "awful"], "film": ["movie"]}
RATES = {"word": 0.4, "character": 0.1, "token": 0.4}


def mechanisms(mask: str) -> dict[str, TextMechanism]:
    """Every kind that strings can be written for; deletion and masking with every unit."""
    found = {
        "adaptive": AdaptiveDeletion(keeps=(3.0,)),
        "bag": BagDeletion(p_del=0.4),
        "combined": CombinedNoise(
            p_del=0.2, p_mask=0.2, p_substitute=0.2, vocabulary=("plot", "cast"), mask=mask
        ),
        "reordering": Reordering(block=2),
        "synonyms": SynonymSmoothing(swaps=SWAPS),
        "exponential": ExponentialSubstitution(swaps=SWAPS, epsilon=0.5),
    }
    for unit, rate in RATES.items():
        found[f"deletion of {unit}s"] = RandomizedDeletion(p_del=rate, unit=unit)
        found[f"masking of {unit}s"] = RandomMasking(p_mask=rate, mask=mask, unit=unit)
    return found


def base_of(architecture: str, **settings) -> HuggingFaceClassifier:
    tokenizer = byte_level_bpe(special_tokens_around=architecture not in DECODERS)
    return HuggingFaceClassifier(tiny_model(architecture, tokenizer, 3), tokenizer, **settings)


def plain(base: HuggingFaceClassifier) -> CallableClassifier:
    """The same model, which is given one string after the other."""
    tokenizer, model = base.tokenizer, base.model

    def scores(texts):
        found = []
        for text in texts:
            ids = tokenizer(text, truncation=True, max_length=base.max_length)["input_ids"]
            inputs = torch.tensor([ids or [tokenizer.eos_token_id]])
            with torch.inference_mode():
                found.append(model(input_ids=inputs).logits[0].double().numpy())
        return found

    return CallableClassifier(scores, base.labels)


def votes(base, mechanism, texts=TEXTS) -> list:
    return [
        record.votes for record in SmoothedClassifier(base, mechanism).votes(texts, PLAN, seed=3)
    ]


@pytest.mark.parametrize("architecture", SLOW)
def test_votes_are_those_of_the_plain_strings(architecture):
    base = base_of(architecture)
    strings = plain(base)
    answers = set()
    for name, mechanism in mechanisms(base.tokenizer.mask_token or "_").items():
        found = votes(base, mechanism)
        assert all(sum(each.looks[-1]) == PLAN.n_estimation for each in found), name
        if mechanism.unit == "token":
            alone = HuggingFaceClassifier(base.model, base.tokenizer, batch_tokens=1)
            assert votes(alone, mechanism) == found, name
            assert found[0].n_units == len(
                base.tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
            )
        else:
            assert votes(strings, mechanism) == found, name
        answers |= {each.looks[-1] for each in found}
    assert len(answers) > 3, "the model says the same to everything"


@pytest.mark.parametrize("architecture", SLOW)
def test_noise_on_embeddings_votes_alike_in_every_batch_or_is_refused(architecture):
    mechanism = GaussianEmbedding(sigma=0.5, swaps=SWAPS)
    base = base_of(architecture)
    if architecture in REARRANGING:
        with pytest.raises(ModelError, match="rearranges texts"):
            votes(base, mechanism)
        return
    found = votes(base, mechanism)
    alone = HuggingFaceClassifier(base.model, base.tokenizer, batch_tokens=1)
    assert votes(alone, mechanism, TEXTS[::-1])[::-1] == found
    assert any(distances for each in found for distances in each.profile)
    loud = votes(base, GaussianEmbedding(sigma=5.0, swaps=SWAPS))
    assert [each.looks for each in loud] != [each.looks for each in found]
