"""The trainer for several domains: its steps, its evaluations, and what can be plugged into it."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import textwrap
import warnings
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from domain_reviews import (
    SIZES,
    assert_same,
    config,
    difference,
    model,
    reviews,
    tokenizer,
    trainer,
    weights,
)
from transformers import (
    DataCollatorWithPadding,
    GPT2Config,
    GPT2ForSequenceClassification,
    HfArgumentParser,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

from robust_nlp import fishr
from robust_nlp.errors import DataError, ModelError, RecipeError, RobustNLPWarning
from robust_nlp.fishr.checks import check_setup
from robust_nlp.fishr.config import FishrConfig
from robust_nlp.fishr.objectives import Fishr, VREx
from robust_nlp.fishr.penalty import fishr_penalty
from robust_nlp.fishr.sampler import DomainBalancedSampler
from robust_nlp.fishr.trainer import FishrTrainer
from robust_nlp.fishr.watch import BATCHES, Watch


def trained(folder, **kwargs) -> FishrTrainer:
    run = trainer(folder, **kwargs)
    run.train()
    return run


# A step.


def by_hand(net, batch, weight: float) -> torch.Tensor:
    """Cross-entropy and the penalty of Fishr, of one gradient after another."""
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    losses = F.cross_entropy(net(**inputs).logits, batch["labels"], reduction="none")
    head = [net.classifier.weight, net.classifier.bias]
    gradients = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, head, create_graph=True)])
            for loss in losses
        ]
    )
    domains = batch["domain"]
    variances = torch.stack(
        [gradients[domains == d].var(dim=0, unbiased=False) for d in domains.unique()]
    )
    penalty = (variances - variances.mean(dim=0)).square().mean()
    return losses.mean() + weight * penalty


def test_a_step_is_that_of_the_formula(tmp_path):
    """One step with stochastic gradient descent, against automatic differentiation."""
    run = trainer(tmp_path, settings={"max_steps": 1})
    batch = next(iter(run.get_train_dataloader()))
    net = model()
    loss = by_hand(net, batch, weight=2000.0)
    loss.backward()
    expected = {
        name: value - 0.2 * value.grad if value.grad is not None else value
        for name, value in net.named_parameters()
    }
    run.train()
    for name, value in run.model.named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
    log = run.state.log_history[0]
    assert log["loss"] == pytest.approx(loss.item(), abs=1e-4)
    assert 2000.0 * log["penalty"] > 1e-2  # it is no small part of the loss


def test_the_weight_of_the_penalty_follows_its_ramp(tmp_path):
    settings = {"max_steps": 10, "ramp_start": 0.3, "ramp_end": 0.7, "penalty_weight": 8.0}
    run = trained(tmp_path, settings=settings)
    logged = [log["penalty_weight"] for log in run.state.log_history[:-1]]
    np.testing.assert_allclose(logged, [0, 0, 0, 0, 2, 4, 6, 8, 8, 8], atol=1e-9)


@pytest.mark.filterwarnings("ignore:over 40 batches, the Fishr penalty")  # domains are alike
def test_the_model_learns(tmp_path):
    settings = {"max_steps": 40, "optim": "adamw_torch", "learning_rate": 1e-2}
    run = trained(
        tmp_path, settings={**settings, "penalty_weight": 1.0}, eval_dataset=reviews(seed=1)
    )
    metrics = run.evaluate()
    assert metrics["eval_worst_domain_accuracy"] > 0.9


@pytest.mark.parametrize("kind", ["datasets", "list"])
@pytest.mark.parametrize("collate", ["default", "with padding", "of tensors"])
def test_every_kind_of_data_set_and_collator_gives_the_same_step(tmp_path, kind, collate):
    rows = reviews()
    pad = max(len(row["input_ids"]) for row in rows)
    if collate == "of tensors":  # cannot pad, and would choke on a text
        for row in rows:
            row.update(tokenizer().pad({"input_ids": row["input_ids"]}, "max_length", pad))
    domain_ids = {"books": 1, "dvd": 2, "air": 0}
    numbers = [{**row, "domain": domain_ids[row["domain"]], "text": "unused"} for row in rows]
    collators = {
        "default": None,
        "with padding": DataCollatorWithPadding(tokenizer()),
        "of tensors": default_data_collator,
    }
    data = datasets.Dataset.from_list(numbers) if kind == "datasets" else numbers
    run = trained(tmp_path, data=data, data_collator=collators[collate])
    assert_same(weights(run), weights(trained(tmp_path)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("column", [None, "length"])
def test_batches_may_be_sorted_by_length(tmp_path, column):
    rows = [{**row, "length": len(row["input_ids"])} for row in reviews()]
    name = "train_sampling_strategy"
    option = (
        {name: "group_by_length"} if hasattr(config(tmp_path), name) else {"group_by_length": True}
    )
    settings = {**option, "length_column_name": column or "none"}
    run = trainer(tmp_path, data=datasets.Dataset.from_list(rows), settings=settings)
    batch = next(iter(run.get_train_dataloader()))
    lengths = batch["attention_mask"].sum(dim=1).reshape(-1, 3)
    assert (lengths.diff(dim=0) <= 0).all()


def test_the_order_may_be_left_to_the_trainer(tmp_path):
    plain = trainer(tmp_path, settings={"balanced_batches": False})
    rows = [row for batch in plain.get_train_dataloader() for row in batch["labels"]]
    assert len(rows) == sum(SIZES.values())
    balanced = trainer(tmp_path)
    assert len(list(balanced.get_train_dataloader())) == sum(SIZES.values()) // 24


def test_rows_of_unknown_domain_and_augmented_ones_are_in_the_loss_alone(tmp_path):
    clean = trained(tmp_path, settings={"max_steps": 1, "per_device_train_batch_size": 12})
    more = [{**row, "augmented": False} for row in reviews()]
    more += [{**row, "augmented": True} for row in reviews(seed=1)]
    settings = {"max_steps": 1, "per_device_train_batch_size": 24}
    run = trained(tmp_path, data=more, settings=settings)
    unknown = [{**row, "domain": None if row["augmented"] else row["domain"]} for row in more]
    same = trained(tmp_path, data=unknown, settings=settings)
    expected = clean.state.log_history[0]
    # The same twelve rows are in the statistics, which are those of half a batch.
    for logs in (run.state.log_history[0], same.state.log_history[0]):
        assert logs["penalty"] == pytest.approx(expected["penalty"], rel=1e-3)
        assert logs["books_loss"] == pytest.approx(expected["books_loss"], rel=1e-3)
        assert logs["risk"] != pytest.approx(expected["risk"], rel=1e-3)


@pytest.mark.filterwarnings("ignore:over 3. batches, the Fishr penalty")
def test_a_trained_model_can_be_pickled_and_trained_again(tmp_path):
    made = trained(tmp_path, settings={"max_steps": 30})
    copied = pickle.loads(pickle.dumps(made.model))
    assert_same(dict(copied.state_dict()), dict(made.model.state_dict()))
    assert not [m for m in made.model.modules() if m._forward_hooks]
    made.train()


def test_short_trainings_are_warned_of_at_their_end(tmp_path):
    with pytest.warns(RobustNLPWarning, match="over 30 batches, the Fishr penalty was"):
        trained(tmp_path, settings={"max_steps": 30})


def test_a_decoder_is_trained_and_padding_changes_nothing(tmp_path):
    def decoder():
        settings = {"vocab_size": 200, "n_embd": 16, "n_layer": 1, "n_head": 2, "pad_token_id": 0}
        none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return GPT2ForSequenceClassification(GPT2Config(n_positions=64, **settings, **none))

    runs = [
        trained(
            tmp_path,
            model=decoder(),
            settings={
                "per_device_train_batch_size": size,
                "gradient_accumulation_steps": batches,
                "max_steps": 1,
                "penalty_weight": 10.0,
            },
        )
        for size, batches in ((24, 1), (8, 3))
    ]
    assert runs[0].state.log_history[0]["penalty"] > 0.0
    assert_same(weights(runs[1]), weights(runs[0]), rtol=1e-4, atol=1e-5)


def test_a_loss_of_rows_of_the_user_takes_the_place_of_cross_entropy(tmp_path):
    settings = {"label_smoothing_factor": 0.2}
    closed = trained(tmp_path, settings=settings)

    def smooth(logits, labels):
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=0.2)

    own = trained(tmp_path, task_loss=smooth)
    assert_same(weights(own), weights(closed), rtol=1e-4, atol=1e-5)
    assert difference(weights(own), weights(trained(tmp_path))) > 1e-3


# Evaluations.


def test_metrics_by_domain_are_those_of_the_predictions(tmp_path):
    test = reviews({"books": 13, "new": 9, "air": 1}, seed=5)
    test[0]["label"] = -100
    test[1]["domain"] = None
    run = trainer(tmp_path, eval_dataset=test)
    predicted = run.predict(test)
    assert predicted.predictions.shape == (23, 2)  # as a plain Trainer returns them
    assert predicted.label_ids.tolist() == [row["label"] for row in test]
    logits = torch.from_numpy(predicted.predictions)
    counted = [i for i in range(23) if i != 0]
    right, losses = {}, {}
    for i in counted:
        label, domain = test[i]["label"], test[i]["domain"]
        right.setdefault(domain, []).append(int(logits[i].argmax()) == label)
        losses.setdefault(domain, []).append(-float(logits[i].log_softmax(dim=0)[label]))
    expected = {}
    for domain in ("books", "new", "air"):
        expected[f"eval_{domain}_accuracy"] = np.mean(right[domain])
        expected[f"eval_{domain}_loss"] = np.mean(losses[domain])
    every = [expected[f"eval_{domain}_accuracy"] for domain in ("books", "new", "air")]
    expected["eval_worst_domain_accuracy"] = min(every)
    expected["eval_mean_domain_accuracy"] = np.mean(every)
    expected["eval_accuracy"] = np.mean([hit for hits in right.values() for hit in hits])
    expected["eval_worst_domain_loss"] = max(
        expected[f"eval_{domain}_loss"] for domain in ("books", "new", "air")
    )
    metrics = run.evaluate()
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert not any("None" in name for name in metrics)


@pytest.mark.parametrize("by_batch", [False, True])
def test_functions_of_the_user_see_what_a_trainer_shows(tmp_path, by_batch):
    test, seen = reviews(seed=5), []

    def answers(logits, labels):
        assert isinstance(labels, torch.Tensor)
        return logits.argmax(dim=-1)

    def compute(prediction, compute_result=None):
        assert (compute_result is not None) == by_batch
        assert prediction.predictions.shape == prediction.label_ids.shape
        seen.append(len(prediction.label_ids))
        return {"accuracy": 7.0, "own": 1.0}

    run = trainer(
        tmp_path,
        eval_dataset=test,
        compute_metrics=compute,
        preprocess_logits_for_metrics=answers,
        settings={"batch_eval_metrics": by_batch, "per_device_eval_batch_size": 32},
    )
    metrics = run.evaluate()
    assert (metrics["eval_accuracy"], metrics["eval_own"]) == (7.0, 1.0)
    plain = trainer(tmp_path, eval_dataset=test).evaluate()
    for name in ("eval_books_accuracy", "eval_worst_domain_loss"):
        assert metrics[name] == pytest.approx(plain[name], abs=1e-6)
    assert seen == ([32, 32, 32, 32] if by_batch else [len(test)])
    if not by_batch:
        assert run.predict(test).predictions.shape == (len(test),)


def test_data_without_domains_or_labels_are_evaluated_too(tmp_path):
    run = trainer(tmp_path)
    bare = [
        {key: row[key] for key in ("input_ids", "attention_mask", "label")} for row in reviews()
    ]
    metrics = run.evaluate(bare)
    assert {"eval_loss", "eval_accuracy"} <= metrics.keys()
    assert not any("domain" in name for name in metrics)
    for row in bare:
        del row["label"]
    predicted = run.predict(bare)
    assert predicted.predictions.shape == (len(bare), 2)
    assert predicted.label_ids is None


def test_evaluations_leave_the_training_as_it_is(tmp_path):
    settings = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 1}
    run = trained(tmp_path, settings=settings, eval_dataset=reviews(seed=2))
    plain = trained(tmp_path, settings={"max_steps": 4})
    assert_same(weights(run), weights(plain))
    assert run.domain_loss.state.average.state_dict()["updates"]["air"] == 4
    evaluations = [log for log in run.state.log_history if "eval_loss" in log]
    assert len(evaluations) == 4
    # In evaluations, the loss has no penalty.
    total = sum(SIZES.values())
    pooled = sum(evaluations[0][f"eval_{name}_loss"] * size for name, size in SIZES.items()) / total
    assert evaluations[0]["eval_loss"] == pytest.approx(pooled, rel=1e-3)


def test_the_worst_domain_can_choose_the_checkpoint(tmp_path):
    settings = {
        "max_steps": 3,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "worst_domain_loss",
        "greater_is_better": False,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "mtime may not be reliable")
        run = trained(tmp_path, settings=settings, eval_dataset=reviews(seed=2))
    losses = [log["eval_worst_domain_loss"] for log in run.state.log_history if "eval_loss" in log]
    assert run.state.best_metric == min(losses)


def test_a_validation_of_the_user_takes_the_place_of_evaluations(tmp_path):
    seen = []

    class Listener(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics, **kwargs):
            seen.append(metrics)

    run = trainer(
        tmp_path,
        validate=lambda trainer: {"certified": float(trainer.state.global_step)},
        settings={"eval_strategy": "steps", "eval_steps": 1},
        eval_dataset=reviews(),
        callbacks=[Listener()],
    )
    run.train()
    assert [metrics["eval_certified"] for metrics in seen] == [1.0, 2.0]
    assert [log["eval_certified"] for log in run.state.log_history if "eval_certified" in log] == [
        1,
        2,
    ]


# Logs.


def test_what_is_logged_is_the_mean_since_the_last_log(tmp_path):
    each = trained(tmp_path, settings={"max_steps": 4})
    pair = trained(tmp_path, settings={"max_steps": 4, "logging_steps": 2})
    logs = each.state.log_history
    for i, log in enumerate(pair.state.log_history[:2]):
        for name in ("loss", "risk", "penalty", "books_loss", "dvd_accuracy"):
            mean = (logs[2 * i][name] + logs[2 * i + 1][name]) / 2  # eight rows in each step
            assert log[name] == pytest.approx(mean, rel=1e-3, abs=1e-4)
        worst = min(log[f"{name}_accuracy"] for name in SIZES)
        assert log["worst_domain_accuracy"] == worst
    assert "books_loss" not in pair.state.log_history[2]


# Warnings.


def warned(tmp_path, *, data=None, **settings) -> list[str]:
    run = trainer(tmp_path, data=data, settings={"rows_per_domain": 8, **settings})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.get_train_dataloader()
    return [str(w.message) for w in caught if issubclass(w.category, RobustNLPWarning)]


def test_good_data_call_for_no_warning(tmp_path):
    assert warned(tmp_path) == []


@pytest.mark.parametrize(
    ("sizes", "settings", "message"),
    [
        ({"books": 64}, {}, "have one domain, 'books'"),
        (
            SIZES,
            {"domains_per_batch": 3, "per_device_train_batch_size": 12},
            "12 rows have 4 of each",
        ),
        (SIZES, {"per_device_train_batch_size": 12}, "12 rows have 6 of each"),
        ({**SIZES, "tiny": 4}, {"per_device_train_batch_size": 32}, "fewer than 8 rows .* 'tiny'"),
    ],
)
def test_too_few_rows_and_domains_are_warned_of(tmp_path, sizes, settings, message):
    (found,) = warned(tmp_path, data=reviews(sizes), **settings)
    assert re.search(message, found)
    assert warned(tmp_path, data=reviews(sizes), objective="erm", **settings) == []


def test_rows_of_accumulated_batches_count_where_a_statistic_is_of_them(tmp_path):
    cut = {"per_device_train_batch_size": 12, "gradient_accumulation_steps": 2}
    assert warned(tmp_path, **cut) == []
    (found,) = warned(tmp_path, accumulation="per_batch", **cut)
    assert "12 rows have 6" in found


def test_domains_of_one_label_are_warned_of(tmp_path):
    rows = [{**row, "label": row["label"] * (row["domain"] != "dvd")} for row in reviews()]
    (found,) = warned(tmp_path, data=rows)
    assert "same label" in found
    assert found.endswith(": 'dvd'")


def look(rows, *, objective=None, n: int = BATCHES) -> list[str]:
    watch = Watch(objective or Fishr())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in range(n):
            watch.look(rows(torch.Generator().manual_seed(seed)), ["a", "b"], reduce=lambda x: x)
    return [str(w.message) for w in caught]


def rows_of(scale: float, n: int = 16, label: int | None = None):
    """Rows of two domains, of which the second has features of another scale."""
    from robust_nlp.fishr.batch import domain_batch

    def make(generator):
        features = torch.randn(2 * n, 6, generator=generator)
        features[n:] *= scale
        labels = torch.randint(0, 2, (2 * n,), generator=generator)
        if label is not None:
            labels[:n] = label
        logits = torch.randn(2 * n, 2, generator=generator) / 4
        return domain_batch(features, logits, labels, torch.arange(2 * n) // n)

    return make


def test_a_penalty_that_is_mostly_noise_is_warned_of_once():
    (found,) = look(rows_of(1.0), n=2 * BATCHES)
    assert "mostly lowers gradient variances" in found
    assert look(rows_of(1.0), n=BATCHES - 1) == []
    assert look(rows_of(3.0)) == []
    assert look(rows_of(1.0), objective=Fishr(estimator="cross_split")) == []


def test_batches_of_one_label_are_warned_of_once():
    (found,) = look(rows_of(3.0, label=1), n=2 * BATCHES)
    assert "same label: 'a'." in found


def test_the_trainer_looks_at_its_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("robust_nlp.fishr.watch.BATCHES", 2)
    monkeypatch.setattr("robust_nlp.fishr.watch.LOWEST_RATIO", float("inf"))
    with pytest.warns(RobustNLPWarning, match="mostly lowers gradient variances"):
        trained(tmp_path)


# Settings.


def test_settings_name_an_objective_in_three_ways(tmp_path):
    named = config(tmp_path, objective="vrex")
    mapped = config(tmp_path, objective={"kind": "vrex"})
    given = config(tmp_path, objective=VREx())
    assert named.objective == mapped.objective == given.objective == {"kind": "vrex"}
    assert named.build_objective() == VREx()
    tuned = config(tmp_path, objective={"kind": "fishr", "gamma": 0.5})
    assert tuned.build_objective() == Fishr(gamma=0.5)
    assert config(tmp_path, objective=tuned.objective).objective == tuned.objective


def test_every_objective_has_a_weight_of_its_own(tmp_path):
    for kind, weight in (("fishr", 1000.0), ("vrex", 10.0), ("erm", 0.0)):
        assert (
            config(tmp_path, objective=kind, penalty_weight=None).penalty_weight_at(1, 2) == weight
        )


def test_settings_are_plain_values(tmp_path):
    saved = json.loads(config(tmp_path, objective=Fishr(gamma=0.5)).to_json_string())
    assert saved["objective"]["gamma"] == 0.5


def test_settings_are_read_from_a_command_line(tmp_path):
    (read,) = HfArgumentParser(FishrConfig).parse_args_into_dataclasses(
        [
            *("--output_dir", str(tmp_path), "--domain_column", "source", "--report_to", "none"),
            *("--objective", '{"kind": "fishr", "gamma": 0.5}', "--domain_probabilities", "2"),
            *("--domains_per_batch", "3", "--accumulation", "per_batch"),
        ]
    )
    assert read.build_objective() == Fishr(gamma=0.5)
    assert (read.domain_probabilities, read.domains_per_batch) == (2.0, 3)
    assert (read.domain_column, read.accumulation) == ("source", "per_batch")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"objective": "fisher"},
            "objective.kind: expected one of .*'fisher'.*Did you mean 'fishr'",
        ),
        ({"objective": {"kind": "fishr", "gama": 1}}, "gama: unexpected keyword"),
        ({"objective": 3}, "a name, a mapping or an objective; got 3"),
        ({"penalty_weight": -1.0}, "at least 0; got -1.0"),
        ({"ramp_start": 0.6, "ramp_end": 0.5}, "got 0.6 and 0.5"),
        ({"ramp_end": 1.5}, "got 0.0 and 1.5"),
        ({"rows_per_domain": 0}, "at least 1; got 0"),
        ({"accumulation": "both"}, "got 'both'"),
        ({"domain_column": "labels"}, "is a name of the labels"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(RecipeError, match=message):
        config(tmp_path, **settings)


def test_plain_arguments_and_reduced_losses_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="takes a FishrConfig; got TrainingArguments"):
        FishrTrainer(model(), TrainingArguments(str(tmp_path), report_to="none"))
    with pytest.raises(RecipeError, match="give task_loss"):
        trainer(tmp_path, compute_loss_func=lambda *args, **kwargs: None)
    with pytest.raises(RecipeError, match="eval_do_concat_batches"):
        trainer(tmp_path, settings={"eval_do_concat_batches": False})


def test_several_gpus_in_one_process_are_refused(tmp_path):
    settings = config(tmp_path)
    settings._n_gpu = 2
    with pytest.raises(RecipeError, match="split its batches over 2 GPUs"):
        FishrTrainer(model(), settings, train_dataset=reviews())


@pytest.mark.parametrize(
    "setting", [{"num_labels": 1}, {"problem_type": "multi_label_classification"}]
)
def test_models_of_other_tasks_are_refused(tmp_path, setting):
    with pytest.raises(ModelError, match="each text into one of several classes"):
        trainer(tmp_path, model=model(**setting))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"is_deepspeed_enabled": True}, "DeepSpeed, tensor, context"),
        ({"is_distributed_loading_by_transformers": True}, "DeepSpeed, tensor, context"),
        ({"parallelism_config": SimpleNamespace(non_data_parallel_size=2)}, "DeepSpeed, tensor"),
        ({"fsdp_plugin": SimpleNamespace(fsdp_version=1)}, '"fsdp_version": 2'),
        ({"fsdp_plugin": SimpleNamespace(fsdp_version=2)}, None),
        ({"parallelism_config": SimpleNamespace(non_data_parallel_size=1)}, None),
    ],
)
def test_other_ways_of_parallel_training_are_refused(tmp_path, setting, message):
    fake = SimpleNamespace(
        args=config(tmp_path),
        model=model(),
        is_deepspeed_enabled=False,
        accelerator=SimpleNamespace(state=SimpleNamespace(), parallelism_config=None),
    )
    for name, value in setting.items():
        owner = {"parallelism_config": fake.accelerator, "fsdp_plugin": fake.accelerator.state}
        setattr(owner.get(name, fake), name, value)
    if message is None:
        check_setup(fake, own_loss=False)
    else:
        with pytest.raises(RecipeError, match=message):
            check_setup(fake, own_loss=False)


def test_a_model_may_be_made_by_a_function(tmp_path):
    made = trainer(tmp_path, model=None, model_init=lambda: model())
    made.train()
    assert_same(weights(made), weights(trained(tmp_path)))
    made.train()  # the same again, with a new model
    assert_same(weights(made), weights(trained(tmp_path)))


def test_processes_that_load_data_get_the_collator(tmp_path):
    run = trainer(tmp_path)
    run.get_train_dataloader()
    collate = pickle.loads(pickle.dumps(run.data_collator))
    assert collate(reviews()[:2])["domain"].tolist() == [1, 1]


def test_data_must_have_domains_and_labels(tmp_path):
    rows = reviews()
    with pytest.raises(DataError, match="no column 'source'"):
        trained(tmp_path, settings={"domain_column": "source"})
    with pytest.raises(DataError, match="takes a data set with a length; got IterableDataset"):
        trained(tmp_path, data=datasets.Dataset.from_list(rows).to_iterable_dataset())
    with pytest.raises(DataError, match="no labels"):
        trained(tmp_path, data=[{k: v for k, v in row.items() if k != "label"} for row in rows])


def test_the_example_in_the_documentation_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = FishrTrainer.__doc__.split("of domains:\n\n")[1].split("\n\n    **Guarantees**")[0]
    names = {
        "model": model(),
        "train": [{**row, "source": row["domain"]} for row in reviews()],
        "validation": [{**row, "source": row["domain"]} for row in reviews(seed=1)],
        "tokenizer": tokenizer(),
    }
    code = textwrap.dedent(lines).replace(
        'output_dir="out"', 'output_dir="out", report_to="none", use_cpu=True, num_train_epochs=1'
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*pin_memory.*")
        exec(code, names)
    assert names["trainer"].state.global_step == sum(SIZES.values()) // 32


# The package.


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, robust_nlp.fishr; from robust_nlp import fishr; fishr.__all__;"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_has_what_it_says():
    for name in fishr.__all__:
        assert getattr(fishr, name) is not None
    assert fishr.FishrConfig is FishrConfig
    assert fishr.FishrTrainer is FishrTrainer
    assert fishr.DomainBalancedSampler is DomainBalancedSampler
    assert fishr.fishr_penalty is fishr_penalty
    with pytest.raises(AttributeError, match="no attribute 'Fisher'"):
        _ = fishr.Fisher


def test_settings_that_cannot_be_meant_are_refused_before_a_model_is_loaded(tmp_path):
    with pytest.raises(RecipeError, match='"uniform", "proportional" or a temperature above 0; go'):
        config(tmp_path, domain_probabilities="unifrom")
    with pytest.raises(RecipeError, match="a temperature above 0; got -1"):
        config(tmp_path, domain_probabilities=-1)
    assert config(tmp_path, domain_probabilities="2.5").domain_probabilities == 2.5
    objective = {"kind": "fishr", "reduction": "sum"}
    with pytest.raises(RecipeError, match="say its penalty_weight"):
        config(tmp_path, objective=objective, penalty_weight=None)
    assert config(tmp_path, objective=objective, penalty_weight=1.3).penalty_weight == 1.3
