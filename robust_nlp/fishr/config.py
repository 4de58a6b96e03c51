"""The settings of a training over several domains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from robust_nlp.errors import RecipeError
from robust_nlp.fishr.objectives import AnyObjective
from robust_nlp.fishr.sampler import NAMED, exponent
from robust_nlp.fishr.schedule import ramp
from robust_nlp.settings import build, plain


@dataclass
class FishrConfig(TrainingArguments):
    """`transformers.TrainingArguments`, and how domains enter the training.

    Attributes:
        domain_column: Column of the data set with each row's domain: a text or a whole number.
        objective: What is minimized: the name of an objective ("fishr", "erm", "reweighted_erm",
            "irm", "vrex", "group_dro", "coral"), a mapping with this name as `kind` and settings
            beside it, such as `{"kind": "fishr", "gamma": 0.9}`, or an objective. It is kept as a
            mapping with all settings.
        whole_head: Whether Fishr compares gradients of all linear layers of the head, such as those
            of pooling, and not of the last alone.
        penalty_weight: Full weight of the penalty, at least 0; `None` for the objective's own
            default.
        ramp_start: Share of the optimizer steps, in `[0, 1]`, before which the penalty has no
            weight.
        ramp_end: Share of the optimizer steps from which on it has its full weight, at least
            `ramp_start`.
        balanced_batches: Whether batches have equally many rows of a few domains, as penalties
            need them; see `DomainBalancedSampler`. Rows are sorted by length within a batch where
            the Trainer is asked to group by length. `False` leaves the order to the Trainer.
        domains_per_batch: Domains in a batch; `None` for as many as have room with
            `rows_per_domain` rows each.
        rows_per_domain: Rows of each domain in a batch that a statistic should have; below 8, it is
            mostly noise.
        domain_probabilities: How often a domain is drawn: "uniform", "proportional" to its size,
            or a temperature for what lies between; see `DomainBalancedSampler`.
        stratify_labels: Whether labels are spread as evenly over a domain's batches as they can.
        accumulation: What a statistic is of under gradient accumulation: "exact" for all batches
            of an optimizer step, for which the model reads each of them twice; "per_batch" for each
            batch of all processes by itself.

    Raises:
        RecipeError: If one of these is out of range, or there is no such objective.
    """

    domain_column: str = field(default="domain", metadata={"help": "Column with the domain."})
    objective: dict[str, Any] | str | None = field(
        default="fishr", metadata={"help": "Name of the objective, or its settings as JSON."}
    )
    whole_head: bool = field(
        default=False, metadata={"help": "Compare gradients of all linear layers of the head."}
    )
    penalty_weight: float | None = field(
        default=None, metadata={"help": "Full weight of the penalty."}
    )
    ramp_start: float = field(
        default=0.3, metadata={"help": "Share of the steps before the penalty gets weight."}
    )
    ramp_end: float = field(
        default=0.5, metadata={"help": "Share of the steps before it has its full weight."}
    )
    balanced_batches: bool = field(
        default=True, metadata={"help": "Equally many rows of each domain in a batch."}
    )
    domains_per_batch: int | None = field(default=None, metadata={"help": "Domains in a batch."})
    rows_per_domain: int = field(default=8, metadata={"help": "Rows of a domain in a batch."})
    domain_probabilities: float | str | None = field(
        default="uniform", metadata={"help": "uniform, proportional, or a temperature."}
    )
    stratify_labels: bool = field(
        default=False, metadata={"help": "Spread labels evenly over a domain's batches."}
    )
    accumulation: str = field(
        default="exact",
        metadata={
            "help": "Statistics of all batches of a step together, or of each.",
            "choices": ["exact", "per_batch"],
        },
    )

    #: Settings that a command line gives as JSON.
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "objective"]  # noqa: RUF012

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.objective = self.objective_settings
        self.domain_probabilities = _probabilities(self.domain_probabilities)
        settings = self.objective_settings
        if settings.get("reduction") == "sum" and self.penalty_weight is None:
            raise RecipeError(
                'the penalty of reduction="sum" is that of "mean" times the number of compared '
                "parameters, such as 2 * (384 + 1): say its penalty_weight, for the default "
                "strength 1000 over that number"
            )
        if not 0.0 <= (self.penalty_weight or 0.0) < float("inf"):
            raise RecipeError(
                f"penalty_weight is a number of at least 0; got {self.penalty_weight}"
            )
        if not 0.0 <= self.ramp_start <= self.ramp_end <= 1.0:
            raise RecipeError(
                "ramp_start and ramp_end are shares of the training, with 0 <= ramp_start <= "
                f"ramp_end <= 1; got {self.ramp_start} and {self.ramp_end}"
            )
        if self.rows_per_domain < 1:
            raise RecipeError(f"rows_per_domain must be at least 1; got {self.rows_per_domain}")
        if self.accumulation not in ("exact", "per_batch"):
            raise RecipeError(f'accumulation is "exact" or "per_batch"; got {self.accumulation!r}')
        if self.domain_column in ("label", "labels", "label_ids"):
            raise RecipeError(
                f"domain_column={self.domain_column!r} is a name of the labels; copy them to a "
                "column of another name"
            )

    def build_objective(self) -> AnyObjective:
        """Return the objective that is minimized."""
        return _objective(self.objective)

    @property
    def objective_settings(self) -> dict[str, Any]:
        """The objective as a mapping with all settings."""
        settings: dict[str, Any] = plain(self.build_objective())
        return settings

    def penalty_weight_at(self, step: int, total: int) -> float:
        """Return the weight of the penalty after some of all optimizer steps."""
        full = self.penalty_weight
        if full is None:
            full = self.build_objective().default_weight
        return full * ramp(step, total, start=self.ramp_start, end=self.ramp_end)


def _objective(given: Any) -> AnyObjective:
    if isinstance(given, AnyObjective):
        return given
    if isinstance(given, str):
        given = {"kind": given}
    if not isinstance(given, Mapping):
        raise RecipeError(f"objective is a name, a mapping or an objective; got {given!r}")
    objective: AnyObjective = build(AnyObjective, given, "objective")
    return objective


def _probabilities(given: float | str | None) -> float | str:
    if given is None or given in NAMED:
        return "uniform" if given is None else str(given)
    try:
        temperature = float(given)
    except ValueError:
        temperature = 0.0
    exponent(given if temperature <= 0.0 else temperature)  # which checks them
    return temperature
