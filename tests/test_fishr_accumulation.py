"""Gradient accumulation: an optimizer step does not depend on how its rows are cut into batches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from domain_reviews import assert_same, config, difference, model, reviews, trainer, weights
from torch import nn
from torch.utils.data import SequentialSampler

from robust_nlp.errors import ModelError, RecipeError
from robust_nlp.fishr.accumulation import Rows, TwoPasses
from robust_nlp.fishr.trainer import FishrTrainer

OBJECTIVES = {
    "fishr": {"kind": "fishr"},
    "cross-split": {"kind": "fishr", "estimator": "cross_split", "average": "debiased"},
    "irm": {"kind": "irm"},
    "vrex": {"kind": "vrex"},
    "coral": {"kind": "coral"},
    "group_dro": {"kind": "group_dro", "step_size": 1.0},
    "reweighted": {"kind": "reweighted_erm"},
    "erm": {"kind": "erm"},
}
CUTS = [(24, 1), (8, 3), (6, 4)]


def trained(folder, cut, *, settings=None, **kwargs):
    """Train in double precision, where sums in another order agree to the last digits."""
    size, batches = cut
    kwargs = {"model": model().double(), **kwargs}
    run = trainer(
        folder,
        settings={
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": batches,
            **(settings or {}),
        },
        **kwargs,
    )
    run.train()
    return run


def holey(rows: list[dict]) -> list[dict]:
    """Leave out some rows, and the domains of others, so that batches have unequal rows."""
    for i, row in enumerate(rows):
        if i % 7 == 0:
            row["label"] = -100
        if i % 5 == 0:
            row["domain"] = None
        row["augmented"] = i % 11 == 0
    return rows


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_the_exact_mode_gives_the_step_of_one_large_batch(tmp_path, objective):
    """Two steps, so that the second depends on what the objective remembers of the first."""
    settings = {"objective": objective}
    if objective["kind"] in ("vrex", "irm", "coral"):
        settings["penalty_weight"] = 10.0
    runs = [trained(tmp_path, cut, settings=settings, data=holey(reviews())) for cut in CUTS]
    assert difference(weights(runs[0]), weights(trainer(tmp_path))) > 1e-2
    for run in runs[1:]:
        assert_same(weights(run), weights(runs[0]), rtol=1e-9, atol=1e-10)
        for log, expected in zip(run.state.log_history, runs[0].state.log_history, strict=True):
            assert log.keys() == expected.keys()
            same = {key for key in log if not key.startswith(("train_", "total_"))}
            for key in same:
                assert log[key] == pytest.approx(expected[key], rel=1e-3, abs=2e-4)


def test_the_penalty_matters_and_parts_of_a_batch_give_another_one(tmp_path):
    exact = weights(trained(tmp_path, (12, 2)))
    cheap = trained(tmp_path, (12, 2), settings={"accumulation": "per_batch"})
    plain = trained(tmp_path, (12, 2), settings={"penalty_weight": 0.0})
    assert difference(exact, weights(cheap)) > 1e-3
    assert difference(exact, weights(plain)) > 1e-3


def test_without_a_penalty_both_modes_agree(tmp_path):
    settings = {"objective": "erm", "per_device_train_batch_size": 24}
    whole = trained(tmp_path, (24, 1), settings=settings)

    def halves(dataset, domains, args, *, batch_size):
        return whole._epoch.sampler

    with pytest.MonkeyPatch.context() as patch:  # batches of both modes are drawn differently
        patch.setattr("robust_nlp.fishr.trainer.balanced_sampler", halves)
        cheap = trained(
            tmp_path, (6, 4), settings={"objective": "erm", "accumulation": "per_batch"}
        )
    assert_same(weights(cheap), weights(whole), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("accumulation", ["exact", "per_batch"])
def test_the_memory_of_an_objective_is_updated_once_a_step(tmp_path, accumulation):
    settings = {"accumulation": accumulation, "max_steps": 3}
    run = trained(tmp_path, (12, 2), settings=settings)
    updates = run.domain_loss.state.average.state_dict()["updates"]
    assert updates == {"air": 3, "books": 3, "dvd": 3}


# The size of gradients.


class Inflated(FishrTrainer):
    """As every plain subclass of a Trainer is where models take further arguments."""

    loss_is_scaled_for_ga = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = True


def norms(tmp_path, cut, monkeypatch=None, **settings):
    defaults = {"objective": "erm", "max_steps": 1, "rows_per_domain": 1}
    run = trained(tmp_path, cut, settings={**defaults, **settings})
    log = run.state.log_history[0]
    return log["grad_norm"], log["loss"]


def test_gradients_and_logged_losses_do_not_grow_with_accumulation(tmp_path, monkeypatch):
    expected = norms(tmp_path, (16, 1))
    assert norms(tmp_path, (4, 4)) == pytest.approx(expected, rel=1e-4)
    monkeypatch.setattr("domain_reviews.FishrTrainer", Inflated)
    assert norms(tmp_path, (16, 1)) == pytest.approx(expected, rel=1e-4)
    inflated = norms(tmp_path, (4, 4))
    assert inflated == pytest.approx([4 * value for value in expected], rel=1e-3)


# Further terms of the loss.


def again(trainer, model, inputs, outputs):
    """The cross-entropy once more: with it, steps of ERM are twice as long."""
    scores = model(**trainer.model_inputs(inputs)).logits
    return F.cross_entropy(scores, inputs["labels"])


@pytest.mark.parametrize("accumulation", ["exact", "per_batch"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_further_term_is_the_mean_over_the_rows_of_the_step(tmp_path, cut, accumulation):
    # Rows are left out, so that means over unequal batches would not do.
    settings = {"objective": "erm", "accumulation": accumulation, "max_steps": 1}
    twice = trained(tmp_path, cut, settings=settings, extra_loss=again, data=holey(reviews()))
    longer = {**settings, "learning_rate": 0.4}
    expected = trained(tmp_path, cut, settings=longer, data=holey(reviews()))
    assert_same(weights(twice), weights(expected), rtol=1e-9, atol=1e-10)
    logs = [run.state.log_history[0]["loss"] for run in (twice, expected)]
    assert logs[0] == pytest.approx(2.0 * logs[1], rel=1e-3)


def test_a_batch_without_labels_has_no_further_term(tmp_path):
    """Batches of one row each, of which most count nowhere: a mean over no rows is no number."""
    rows = [{**row, "label": -100 if i % 3 else row["label"]} for i, row in enumerate(reviews())]
    settings = {"objective": "erm", "max_steps": 1}
    run = trained(tmp_path, (1, 24), settings=settings, extra_loss=again, data=rows)
    longer = trained(tmp_path, (24, 1), settings={**settings, "learning_rate": 0.4}, data=rows)
    assert_same(weights(run), weights(longer), rtol=1e-9, atol=1e-10)


def test_a_further_term_may_be_none_and_sees_the_batch(tmp_path):
    seen = []

    def look(trainer, model, inputs, outputs):
        assert model.training
        assert trainer.model_inputs(inputs).keys() == {"input_ids", "attention_mask"}
        assert outputs.logits.requires_grad
        seen.append((len(inputs["labels"]), inputs["domain"].tolist()))

    run = trained(tmp_path, (12, 2), extra_loss=look)
    assert_same(weights(run), weights(trained(tmp_path, (12, 2))))
    assert [size for size, _ in seen] == [12] * 4
    assert {domain for _, domains in seen for domain in domains} == {0, 1, 2}


# The two passes by themselves.


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        features = F.dropout(self.encoder(x).tanh(), 0.5)
        return features, self.head(features)


def windows():
    generator = torch.Generator().manual_seed(1)
    return [
        {"x": torch.randn(n, 5, generator=generator), "labels": torch.arange(n) % 3}
        for n in (4, 7, 2)
    ]


def forward_of(net):
    def forward(batch):
        features, logits = net(batch["x"])
        labels = batch["labels"]
        rows = Rows(
            features=features,
            logits=logits,
            labels=labels,
            domains=labels,
            bias=True,
            inner=(),
            sizes=(len(labels),),
            copies=torch.zeros(len(labels), dtype=torch.bool),
        )
        return rows, "outputs"

    return forward


def no_sum(rows: Rows) -> torch.Tensor:
    """A loss in which every row meets every other one."""
    gram = rows.features @ rows.features.T
    return (gram * torch.cdist(rows.logits.softmax(dim=1), rows.features[:, :3])).square().mean()


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield Dropping()


def test_two_passes_give_the_gradient_of_all_rows_with_the_same_dropout(net):
    batches = windows()
    start = torch.get_rng_state()
    parts = [forward_of(net)(batch)[0] for batch in batches]
    expected = no_sum(Rows.joined(parts))
    wanted = torch.autograd.grad(expected, list(net.parameters()))
    after = torch.rand(3)

    torch.set_rng_state(start)
    passes = TwoPasses(forward_of(net), batches, no_sum)
    for batch in batches:
        loss, outputs = passes.backward_loss(batch)
        assert outputs == "outputs"
        torch.testing.assert_close(loss, expected)
        (loss / len(batches)).backward()
    assert not passes
    for parameter, gradient in zip(net.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert torch.equal(torch.rand(3), after)  # random numbers go on, and none comes twice


def test_a_loss_that_ignores_the_features_is_no_trouble(net):
    batches = windows()
    passes = TwoPasses(forward_of(net), batches, lambda rows: rows.logits.square().sum())
    loss, _ = passes.backward_loss(batches[0])
    loss.backward()
    assert net.encoder.weight.grad.abs().sum() > 0.0


def test_other_logits_in_the_second_pass_are_refused(net):
    batches = windows()
    passes = TwoPasses(forward_of(net), batches, no_sum)
    with pytest.raises(ModelError, match='accumulation="per_batch"'):
        passes.backward_loss({**batches[0], "x": batches[0]["x"] + 1.0})


def test_dropout_in_a_model_is_replayed(tmp_path):
    settings = {"penalty_weight": 500.0}
    run = trained(tmp_path, (6, 4), model=model(dropout=0.3), settings=settings)
    assert torch.isfinite(torch.cat([w.flatten() for w in weights(run).values()])).all()


def test_activations_may_be_computed_again(tmp_path):
    """Checkpointed activations draw their dropout a third time."""
    name = "activation_checkpointing"
    if not hasattr(config(tmp_path), name):
        name = "gradient_checkpointing"
    settings = {"penalty_weight": 500.0}
    runs = [
        trained(tmp_path, (6, 4), model=model(dropout=0.3), settings={**settings, name: recompute})
        for recompute in (False, True)
    ]
    assert_same(weights(runs[1]), weights(runs[0]), rtol=1e-9, atol=1e-10)


def test_low_precision_is_for_the_model_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # transformers 4 would leave it set
    exact, rough = (
        [trained(tmp_path, cut, model=model(), settings=each) for cut in CUTS[:2]]
        for each in ({"max_steps": 1}, {"max_steps": 1, "bf16": True})
    )
    logs = [[run.state.log_history[0] for run in runs] for runs in (exact, rough)]
    assert logs[1][0] != logs[0][0]
    for name in ("loss", "penalty", "grad_norm"):
        for log in logs[1]:
            assert log[name] == pytest.approx(logs[0][0][name], rel=0.1)


# The whole head.


def test_the_whole_head_is_compared_where_a_statistic_is_of_one_batch(tmp_path):
    whole = trained(tmp_path, (24, 1), settings={"whole_head": True})
    assert difference(weights(whole), weights(trained(tmp_path, (24, 1)))) > 1e-4
    states = whole.domain_loss.state.average.state_dict()["states"]
    assert states["dvd"].shape[-1] == 16 * 16 + 16 + 2 * 16 + 2
    with pytest.raises(RecipeError, match="whole_head needs all rows"):
        trainer(tmp_path, settings={"whole_head": True, "gradient_accumulation_steps": 2})


def test_domains_that_the_last_batch_lacks_are_remembered(tmp_path):
    settings = {"accumulation": "per_batch", "max_steps": 2, "balanced_batches": False}
    rows = sorted(reviews({"books": 24, "dvd": 24, "air": 24}), key=lambda row: row["domain"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FishrTrainer, "_get_train_sampler", lambda *_: SequentialSampler(rows))
        run = trained(tmp_path, (12, 6), settings=settings, data=rows)
    updates = run.domain_loss.state.average.state_dict()["updates"]
    assert updates == {"air": 2, "books": 2, "dvd": 2}
