"""The input of the last linear layer, in many architectures, with and without adapters."""

import copy

import peft
import pytest
import torch
import torch.nn.functional as F
from fishr_oracles import largest_error
from tiny import ARCHITECTURES, tiny_model
from torch import nn

from robust_nlp.errors import ModelError
from robust_nlp.fishr.batch import domain_batch
from robust_nlp.fishr.head import HeadCapture
from robust_nlp.fishr.moments import gradient_variances

# PEFT asks transformers 5 for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

LABELS = 3

#: The last linear layer; `score` in decoders.
LAST = {
    **dict.fromkeys(["Bert", "DistilBert", "Albert", "DebertaV2", "ModernBert"], "classifier"),
    **dict.fromkeys(["Roberta", "Electra", "MPNet"], "classifier.out_proj"),
    **dict.fromkeys(["GPT2", "Llama", "Qwen2"], "score"),
    "XLNet": "logits_proj",
}
#: Other linear layers that are applied once to each row.
INNER = {
    "Bert": ["bert.pooler.dense"],
    "Albert": ["albert.pooler"],
    "DistilBert": ["pre_classifier"],
    "DebertaV2": ["pooler.dense"],
    "ModernBert": ["head.dense"],
    **{name: ["classifier.dense"] for name in ("Roberta", "Electra", "MPNet")},
    "XLNet": ["sequence_summary.summary"],
}
DECODERS = [name for name, last in LAST.items() if last == "score"]


class Vocabulary:
    """What `tiny_model` asks of a tokenizer."""

    pad_token_id, bos_token_id, eos_token_id = 0, 1, 2

    def __len__(self):
        return 40


def model_of(architecture, num_labels=LABELS):
    return tiny_model(architecture, Vocabulary(), num_labels=num_labels).train()


def inputs_of(rows=5, length=9, *, side="right"):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 40, (rows, length), generator=generator)
    lengths = torch.randint(2, length + 1, (rows,), generator=generator)
    places = torch.arange(length)
    mask = places < lengths[:, None] if side == "right" else places >= length - lengths[:, None]
    return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long()}


def batch_of(capture, model, inputs):
    """The batch of a forward pass, with labels in turn, and its losses in the model's graph."""
    with capture.watching():
        logits = model(**inputs).logits
    head = capture.rows(logits, inputs.get("attention_mask"))
    labels = torch.arange(len(logits)) % LABELS
    domains = torch.arange(len(logits)) // 3
    batch = domain_batch(head.features, logits, labels, domains, bias=head.bias, inner=head.inner)
    return batch, F.cross_entropy(logits, labels, reduction="none")


def layer_of(model, name):
    """A linear layer by the end of its name, and the weight that is called there."""
    ends = (name, f"{name}.base_layer", f"{name}.modules_to_save.default")
    (found,) = [
        module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and f".{path}".endswith(tuple(f".{end}" for end in ends))
    ]
    return found


def assert_gradients(rows, losses, layer):
    """Compare `g ⊗ x` of each row with the gradient of its loss by the layer's parameters."""
    parameters = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    for parameter in parameters:
        parameter.requires_grad_()
    assert rows.bias == (layer.bias is not None)
    for i, loss in enumerate(losses):
        weight, *bias = torch.autograd.grad(loss, parameters, retain_graph=True)
        ours = rows.gradients[i][:, None] * rows.inputs[i]
        assert largest_error(ours, weight) < 1e-4, i
        if bias:
            assert largest_error(rows.gradients[i], bias[0]) < 1e-4, i


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_features_give_the_gradients_of_the_last_layer(architecture):
    model = model_of(architecture)
    capture = HeadCapture(model)
    for side in ("right", "left") if architecture in DECODERS else ("right",):
        batch, losses = batch_of(capture, model, inputs_of(side=side))
        (rows,) = batch.layers
        assert_gradients(rows, losses, layer_of(model, LAST[architecture]))
        assert rows.inputs.requires_grad


@pytest.mark.parametrize("architecture", INNER)
def test_the_whole_head_gives_the_gradients_of_all_its_layers(architecture):
    model = model_of(architecture)
    batch, losses = batch_of(HeadCapture(model, whole_head=True), model, inputs_of())
    names = [*INNER[architecture], LAST[architecture]]
    assert len(batch.layers) == len(names)
    for rows, name in zip(batch.layers, names, strict=True):
        assert_gradients(rows, losses, layer_of(model, name))
    # Nothing was added to the gradients of parameters on the way.
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_whole_head_of_a_decoder_is_its_last_layer():
    model = model_of("Llama")
    batch, _ = batch_of(HeadCapture(model, whole_head=True), model, inputs_of())
    assert len(batch.layers) == 1


def test_layers_that_are_frozen_are_not_in_the_whole_head():
    model = model_of("Bert")
    model.bert.requires_grad_(False)
    batch, _ = batch_of(HeadCapture(model, whole_head=True), model, inputs_of())
    assert len(batch.layers) == 1


# --- adapters ------------------------------------------------------------------------------------


def with_lora(architecture, **settings):
    torch.manual_seed(0)
    config = peft.LoraConfig(
        task_type=settings.pop("task_type", None), r=2, lora_dropout=0.1, **settings
    )
    model = peft.get_peft_model(model_of(architecture), config).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # as after some training: they begin at zero
                parameter.normal_()
    return model


ATTENTION = {
    **{name: ["query", "value"] for name in ("Bert", "Roberta", "Albert", "Electra")},
    "DebertaV2": ["query_proj", "value_proj"],
    "DistilBert": ["q_lin", "v_lin"],
    "MPNet": ["q", "v"],
    "ModernBert": ["Wqkv"],
    "XLNet": ["layer_1"],
    "GPT2": ["c_attn"],
    **{name: ["q_proj", "v_proj"] for name in ("Llama", "Qwen2")},
}


@pytest.mark.filterwarnings("ignore:fan_in_fan_out:UserWarning")  # GPT-2's layers are transposed
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_features_are_found_in_models_with_lora(architecture):
    """PEFT trains a copy of the classifier here, one level further down."""
    settings = {"task_type": "SEQ_CLS", "target_modules": ATTENTION[architecture]}
    if architecture == "XLNet":
        settings["modules_to_save"] = ["logits_proj"]
    model = with_lora(architecture, **settings)
    batch, losses = batch_of(HeadCapture(model), model, inputs_of())
    last = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and "modules_to_save" in name
        and module.out_features == LABELS
    ]
    (rows,) = batch.layers
    assert_gradients(rows, losses, last[0])


@pytest.mark.parametrize("architecture", ["Bert", "Roberta", "Llama"])
@pytest.mark.parametrize("trained", [True, False], ids=["trained", "fresh"])
def test_lora_on_the_head_gives_gradients_of_the_effective_weight(architecture, trained):
    name = LAST[architecture].rpartition(".")[2]
    model = with_lora(architecture, target_modules=[name])
    if not trained:
        with torch.no_grad():
            for path, parameter in model.named_parameters():
                if "lora_B" in path:
                    parameter.zero_()
    layer = layer_of(model, LAST[architecture]).requires_grad_()  # frozen, else
    batch, losses = batch_of(HeadCapture(model), model, inputs_of())
    (rows,) = batch.layers
    assert_gradients(rows, losses, layer)


def test_a_frozen_layer_over_trained_ones_is_not_in_the_whole_head():
    model = model_of("Bert")
    model.bert.pooler.requires_grad_(False)
    batch, _ = batch_of(HeadCapture(model, whole_head=True), model, inputs_of())
    assert len(batch.layers) == 1


def test_a_layer_with_lora_is_one_layer_of_the_whole_head():
    model = with_lora("Bert", target_modules=r".*(pooler\.dense|classifier)")
    layers = [layer_of(model, name).requires_grad_() for name in ("pooler.dense", "classifier")]
    batch, losses = batch_of(HeadCapture(model, whole_head=True), model, inputs_of())
    assert len(batch.layers) == 2
    for rows, layer in zip(batch.layers, layers, strict=True):
        assert_gradients(rows, losses, layer)


# --- how it is used ------------------------------------------------------------------------------


def test_capture_changes_neither_outputs_nor_the_copy_of_a_model():
    model, inputs = model_of("Roberta").eval(), inputs_of()
    before = model(**inputs).logits
    capture = HeadCapture(model)
    batch_of(capture, model, inputs)
    assert torch.equal(model(**inputs).logits, before)
    assert torch.equal(copy.deepcopy(model)(**inputs).logits, before)


def test_without_gradients_features_are_the_same():
    for architecture in ("Bert", "Llama"):
        model, inputs = model_of(architecture).eval(), inputs_of()
        capture = HeadCapture(model)
        expected, _ = batch_of(capture, model, inputs)
        with torch.no_grad():
            found, _ = batch_of(capture, model, inputs)
        assert torch.equal(found.features, expected.features)


def test_each_forward_pass_is_read_by_itself():
    model = model_of("Bert").eval()
    capture = HeadCapture(model)
    for rows in (5, 2, 7):
        batch, _ = batch_of(capture, model, inputs_of(rows))
        assert batch.features.shape == (rows, 16)
    model(**inputs_of(3))  # outside: not noted
    with pytest.raises(ModelError, match="no such layer was called"):
        capture.rows(torch.zeros(3, LABELS))


def test_variances_come_out_of_a_model():
    model = model_of("Bert")
    batch, losses = batch_of(HeadCapture(model), model, inputs_of(rows=6))
    layer = model.classifier
    gradients = torch.stack(
        [
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(
                        loss, [layer.weight, layer.bias], retain_graph=True
                    )
                ]
            )
            for loss in losses
        ]
    )
    expected = torch.stack(
        [gradients[:3].var(0, unbiased=False), gradients[3:].var(0, unbiased=False)]
    )
    assert largest_error(gradient_variances(batch, 2).values, expected) < 1e-4


def test_of_two_layers_with_the_same_logits_the_last_one_counts():
    model = nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 2))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    capture = HeadCapture(model, num_labels=2)
    with capture.watching():
        logits = model(torch.randn(3, 4))
    assert capture.rows(logits).features.shape == (3, 2)


def test_equal_logits_of_several_positions_are_told_apart_by_the_mask():
    class Repeating(nn.Module):
        """A decoder whose padding gets the logits of the last token."""

        def __init__(self):
            super().__init__()
            self.score = nn.Linear(4, 2, bias=False)
            nn.init.zeros_(self.score.weight)

        def forward(self, hidden, last):
            return self.score(hidden)[torch.arange(len(hidden)), last]

    model, hidden = Repeating(), torch.randn(3, 6, 4)
    capture, last = HeadCapture(model, num_labels=2), torch.tensor([2, 5, 0])
    mask = torch.arange(6) <= last[:, None]
    with capture.watching():
        logits = model(hidden, last)
    assert torch.equal(capture.rows(logits, mask).features, hidden[torch.arange(3), last])
    mask[0] = False
    with capture.watching():
        logits = model(hidden, last) + torch.tensor([[0.0, 0.0]])
    capture.rows(logits, mask)


def test_several_positions_with_the_same_logits_are_refused_if_none_is_the_last():
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.score = nn.Linear(4, 2)

        def forward(self, hidden):
            return self.score(hidden)[:, 0]

    model, hidden = First(), torch.randn(2, 5, 4)
    capture = HeadCapture(model, num_labels=2)
    with capture.watching():
        logits = model(hidden)
    assert torch.equal(capture.rows(logits).features, hidden[:, 0])
    hidden[:, 3] = hidden[:, 0]
    with capture.watching():
        logits = model(hidden)
    with pytest.raises(ModelError, match="several positions of a row give the same logits"):
        capture.rows(logits)


# --- what is refused -----------------------------------------------------------------------------


class Scaled(nn.Module):
    """A classifier whose last step is not linear."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(4, 2)

    def forward(self, x):
        return 2.0 * self.classifier(x)


def test_logits_that_no_linear_layer_gave_are_refused():
    model = Scaled()
    capture = HeadCapture(model, num_labels=2)
    with capture.watching():
        logits = model(torch.randn(3, 4))
    with pytest.raises(ModelError, match=r"shape \(3, 2\) .* classifier gave \(3, 2\)"):
        capture.rows(logits)


def test_compiled_models_that_pass_hooks_by_are_refused():
    model = nn.Sequential(nn.Linear(4, 2))
    capture = HeadCapture(model, num_labels=2)
    with capture.watching():
        logits = F.linear(torch.randn(3, 4), model[0].weight)
    with pytest.raises(ModelError, match=r"no such layer was called.*before it is compiled"):
        capture.rows(logits)


def test_data_parallel_and_models_without_a_head_are_refused():
    with pytest.raises(ModelError, match="DataParallel splits a batch"):
        HeadCapture(nn.DataParallel(nn.Linear(4, 2)), num_labels=2)
    with pytest.raises(ModelError, match="a linear layer with 5 outputs"):
        HeadCapture(nn.Sequential(nn.Linear(4, 2)), num_labels=5)


def test_scores_that_are_not_numbers_are_found_all_the_same():
    """As in a step that a gradient scaler will skip."""
    model = nn.Sequential(nn.Linear(4, 2))
    capture = HeadCapture(model, num_labels=2)
    x = torch.randn(3, 4)
    x[1, 0], x[2, 0] = float("nan"), float("inf")
    with capture.watching():
        logits = model(x)
    assert capture.rows(logits).features is x
