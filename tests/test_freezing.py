"""Fine-tuning of the upper layers alone: which weights stay, in which model."""

from __future__ import annotations

import pytest
import tiny
import torch
from safetensors.torch import load_file
from test_training import base, recipe, reviews  # noqa: F401

from robust_nlp.errors import ModelError
from robust_nlp.recipe import ModelRecipe
from robust_nlp.training.freezing import freeze_layers
from robust_nlp.training.run import load_for_training, train

# What is frozen with one of two layers, by the beginnings of names in the base model.
FROZEN = {
    "Bert": ("embeddings.", "encoder.layer.0."),
    "Roberta": ("embeddings.", "encoder.layer.0."),
    "DistilBert": ("embeddings.", "transformer.layer.0."),
    "Electra": ("embeddings.", "embeddings_project.", "encoder.layer.0."),
    "DebertaV2": ("embeddings.", "encoder.layer.0.", "encoder.rel_embeddings."),
    "MPNet": ("embeddings.", "encoder.layer.0.", "encoder.relative_attention_bias."),
    "ModernBert": ("embeddings.", "layers.0."),
    "XLNet": ("mask_emb", "word_embedding.", "layer.0."),
    "GPT2": ("wte.", "wpe.", "h.0."),
    "Llama": ("embed_tokens.", "layers.0."),
    "Qwen2": ("embed_tokens.", "layers.0."),
}


def model(architecture: str):
    return tiny.tiny_model(architecture, tiny.wordpiece())


@pytest.mark.parametrize("architecture", FROZEN)
def test_embeddings_and_lower_layers_are_frozen_and_nothing_else(architecture):
    classifier = model(architecture)
    freeze_layers(classifier, 1)
    encoder = classifier.base_model
    frozen = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    assert frozen == {
        name for name, _ in encoder.named_parameters() if name.startswith(FROZEN[architecture])
    }
    assert all(any(name.startswith(part) for name in frozen) for part in FROZEN[architecture])
    own = {id(p) for p in encoder.parameters()}
    head = [p for p in classifier.parameters() if id(p) not in own]
    assert head
    assert all(p.requires_grad for p in head)


@pytest.mark.parametrize("architecture", ["Bert", "DistilBert", "Roberta", "GPT2", "Llama"])
def test_backward_passes_end_above_what_is_frozen(architecture):
    classifier = model(architecture)
    freeze_layers(classifier, 1)
    seen = []
    for name, module in classifier.base_model.named_modules():
        if name.endswith(("layer.0", "layers.0", "h.0")):
            module.register_forward_hook(lambda _m, _i, out: seen.append(out))
    tokenizer = tiny.wordpiece()
    batch = tokenizer(["a good film", "a bad story"], return_tensors="pt", padding=True)
    names = ("input_ids", "attention_mask")
    classifier(**{name: batch[name] for name in names}).logits.sum().backward()
    lower = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    assert not lower.requires_grad
    trained = [p.grad is not None for p in classifier.parameters() if p.requires_grad]
    assert any(trained)


def test_embeddings_alone_and_all_layers():
    classifier = model("Bert")
    freeze_layers(classifier, 0)
    frozen = {n for n, p in classifier.named_parameters() if not p.requires_grad}
    assert frozen
    assert all(name.startswith("bert.embeddings.") for name in frozen)
    freeze_layers(classifier, 2)
    trained = {n for n, p in classifier.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith(("bert.pooler.", "classifier.")) for name in trained)


def test_more_layers_than_there_are_and_shared_ones_are_refused():
    with pytest.raises(ModelError, match="cannot freeze 3 layers of BertModel: it has 2"):
        freeze_layers(model("Bert"), 3)
    with pytest.raises(ModelError, match=r"one list of its 2 layers; AlbertModel has none"):
        freeze_layers(model("Albert"), 1)
    with pytest.raises(ValueError, match="freeze is a number of layers of at least 0"):
        ModelRecipe(base="x", freeze=-1)


def test_a_training_leaves_frozen_weights_as_they_are(base, tmp_path):  # noqa: F811
    options = {"args": {"max_steps": 3}, "noise": False}
    before = load_for_training(recipe(base).model, ["a", "b"], protected="second")
    start = {name: p.detach().clone() for name, p in before.model.named_parameters()}
    chosen = recipe(base, model={"freeze": 0}, **options)
    train(chosen, reviews("train", 24), reviews("validation", 8), tmp_path)
    end = load_file(tmp_path / "model" / "model.safetensors")
    for name, weight in start.items():
        if name.startswith("bert.embeddings."):
            assert torch.equal(weight, end[name]), name
        if name.startswith("bert.encoder.") and "key.bias" not in name:
            assert not torch.equal(weight, end[name]), name


def test_a_model_that_cannot_be_frozen_stops_the_training(base, tmp_path):  # noqa: F811
    chosen = recipe(base, model={"freeze": 5})
    with pytest.raises(ModelError, match="cannot freeze 5 layers"):
        train(chosen, reviews("train", 8), reviews("validation", 8), tmp_path)
