"""The layout of compare.json, as types from which the published JSON Schema is made."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from robust_nlp.reporting.schema import Estimate, Open, Strict

#: Name of the JSON Schema among the resources of the package.
FILE = "compare.schema.json"


class Skew(Strict):
    """A class or domain whose share among measured texts is not that of the split."""

    stage: str
    of: Literal["class", "domain"]
    name: str
    share: float
    share_of_split: float


class Data(Strict):
    """The texts."""

    split: str
    rows: int
    description: str
    content_hash: str
    skews: list[Skew]


class Sizes(Strict):
    """How many texts were measured, and why."""

    budget: float | None
    most: dict[str, int]
    texts: dict[str, int]
    minutes: float | None
    probes: dict[str, dict[str, dict[str, float]]]


class Domain(Strict):
    """Clean accuracy in one domain."""

    domain: str
    texts: int
    accuracy: Estimate


class SameAnswer(Strict):
    """The class that a method gives the scored texts most often; see `reporting.same_answer`."""

    class_: str = Field(alias="class")
    answers: int
    answered: int
    share: float
    true: int
    hardly_reads: bool


class Rate(Open):
    """Accuracy at one rate of a perturbation."""

    rate: float
    accuracy: Estimate
    score: Estimate


class Score(Open):
    """Accuracy under a perturbation at all rates."""

    perturbation: str
    largest_rate: float
    area: Estimate
    mean_score: Estimate
    points: list[Rate]


class CertifiedPoint(Open):
    """Certified accuracy at one radius, with its 95 % interval."""

    radius: int
    count: int
    share: float
    low: float
    high: float
    corrected: float


class CertifiedCurve(Open):
    """Certified accuracy against one attacker."""

    attacker: str
    moves: str
    allowed_only: bool
    largest_radius: int | None
    curve: list[CertifiedPoint]


class Report(Open):
    """What a method's own report says besides."""

    unit: str
    alpha: float
    audit: dict[str, Any] | None
    methods: dict[str, Any]


class Attacks(Open):
    """Accuracy under attack; `None` where there was nothing to measure it on."""

    worst_case: Estimate | None
    under: dict[str, Estimate | None]
    certificates: dict[str, Any] | None
    examples: list[dict[str, Any]]


class Cost(Strict):
    """What a method costs; see `robust_nlp.compare.costs.cost_facts`."""

    training: dict[str, Any] | None
    answer: dict[str, float] | None
    certificate: dict[str, float] | None
    memory: dict[str, int]
    memory_of: str | None
    stages: dict[str, dict[str, float]]
    host: dict[str, Any] | None


class Method(Strict):
    """One method."""

    method: str
    changes: dict[str, Any]
    smoothed: bool
    model_of: str | None
    start_from: str | None
    noise: dict[str, Any] | None
    denoised: bool
    trained_under_noise: bool
    folder: str
    missing: dict[str, str]
    clean_accuracy: Estimate | None
    abstained: float | None
    same_answer: SameAnswer | None
    domains: list[Domain]
    worst_domain: Domain | None
    scores: list[Score]
    certified: dict[str, CertifiedCurve] | None
    report: Report | None
    attacks: Attacks | None
    cost: Cost
    against_baseline: dict[str, Any] | None


class Point(Strict):
    """A method in a picture of robustness against cost."""

    method: str
    robustness: float
    cost: float


class Front(Strict):
    """A Pareto front of robustness against seconds of an answer."""

    kind: Literal["certified", "attacked", "deleted"]
    threat: str | None
    radius: int | None
    perturbation: str | None
    points: list[Point]
    front: list[str]
    dominated: dict[str, str]
    same_answer: list[str]


class SandwichRow(Strict):
    """What was proved and what was not broken of one method, by radius."""

    method: str
    counted: bool
    texts: int
    certified: list[float] | None
    unbroken: list[float]
    beyond: int
    inside: list[int]
    doubts: int


class Sandwich(Strict):
    """Lower and upper bounds of the true accuracy; see `robust_nlp.compare.sandwich`."""

    radii: list[int]
    methods: list[SandwichRow]


class Check(Strict):
    """Something that was held against the certificates of a method."""

    method: str
    by: Literal["attacks", "clean", "audit"]
    held: bool
    compared: int
    inside: int
    texts: list[int]
    allowed: int


class Contradiction(Strict):
    """A text inside a certified radius with another answer."""

    method: str
    by: Literal["attacks", "audit"]
    attack: str | None
    example_id: int
    attacker: str
    distance: float
    radius: int
    text: str | None
    found: str | None


class Contradictions(Strict):
    """Whether certificates held; `None` if nothing was held against them."""

    held: bool | None
    checks: list[Check]
    found: list[Contradiction]


class LengthClass(Strict):
    """Words of the shortest and the longest scored text of a class."""

    shortest: int
    longest: int


class LengthCell(Strict):
    """Accuracy of the texts of a class."""

    texts: int
    accuracy: Estimate | None


class LengthRow(Strict):
    """Accuracies of one method by class of length."""

    method: str
    clean: list[LengthCell]
    attacked: list[LengthCell] | None
    certified: dict[str, list[LengthCell]]


class Lengths(Strict):
    """Accuracies by length; see `robust_nlp.compare.lengths`."""

    radius: int
    classes: list[LengthClass]
    methods: list[LengthRow]


class Version(Strict):
    """An adversarial version of a text; its text is `None` if texts are not quoted."""

    by: str
    confirmed: bool
    edits: int | None
    predicted: str | None
    text: str | None


class Fate(Strict):
    """What became of a text under one method."""

    method: str
    right: bool
    radius: int | None
    kept: float
    version: Version | None


class Example(Strict):
    """A fragile or a stable text."""

    example_id: int
    text: str | None
    pair: str | None
    label: str | None
    methods: list[Fate]


class Examples(Strict):
    """Texts at both ends; see `robust_nlp.compare.texts`."""

    texts: int
    fragile: list[Example]
    stable: list[Example]


class ComparisonFile(Strict):
    """The file compare.json of `robust-nlp compare`."""

    schema_: int = Field(alias="schema")
    name: str
    title: str
    baseline: str
    texts: dict[str, int]
    data: Data
    sizes: Sizes
    processes: int
    left_out: dict[str, str]
    threats: list[str]
    radii: dict[str, list[int]]
    perturbations: list[str]
    methods: list[Method]
    fronts: list[Front]
    sandwiches: dict[str, Sandwich]
    contradictions: Contradictions
    lengths: Lengths
    examples: Examples
    findings: list[str]
    cautions: list[str]
    seed: int
    plan: dict[str, Any]
    recipe: dict[str, Any]
    command: str
    versions: dict[str, str]
    git_commit: str | None


def comparison_schema() -> dict[str, Any]:
    """Return the JSON Schema of compare.json."""
    return ComparisonFile.model_json_schema(by_alias=True)
