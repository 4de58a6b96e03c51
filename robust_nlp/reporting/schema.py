"""The layout of report.json, as types from which the published JSON Schema is made."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Name of the JSON Schema among the resources of the package.
FILE = "report.schema.json"


class Strict(BaseModel):
    """What has these entries and no others."""

    model_config = ConfigDict(extra="forbid")


class Open(BaseModel):
    """What may have entries of its own: settings, and facts of other reports."""

    model_config = ConfigDict(extra="allow")


class Estimate(Strict):
    """A share with its 95 % interval, or a difference of shares."""

    value: float
    low: float
    high: float


class CurvePoint(Strict):
    """Certified accuracy at one radius; see `robust_nlp.reporting.accuracy.CurvePoint`."""

    radius: int
    count: int
    share: float
    low: float
    high: float
    corrected: float
    share_without_dead_zone: float | None
    share_with_swaps: float | None


class Attacker(Strict):
    """Certified accuracy against one attacker, and the radii of its table."""

    attacker: str
    moves: str
    allowed_only: bool
    largest_radius: int | None
    radius_of_half_the_texts: int | None
    table: list[int]
    curve: list[CurvePoint]


class Counts(Strict):
    """Texts by what matters for reading the accuracy; see `robust_nlp.reporting.facts`."""

    texts: int
    distinct: int
    right: int
    abstentions: int
    dead_zone: int
    vacuous: int
    all_swaps: int | None
    swappable: float | None
    exact: int
    statistical: int
    statistical_distinct: int
    wrong_certificates_at_most: int
    confidence: float


class SameAnswer(Strict):
    """The class that nearly all texts are given although they are of others."""

    class_: str | None = Field(alias="class")
    answers: int
    answered: int
    true: int | None


class Outcome(Strict):
    """Texts with one outcome; outcomes are disjoint."""

    name: str
    count: int
    share: float


class LengthClass(Strict):
    """Radii of texts of about the same length; lengths are in the unit of the report."""

    shortest: int
    longest: int
    texts: int
    right: int
    abstentions: int
    lower_quartile: int | None
    median: int | None
    upper_quartile: int | None
    ceiling: int | None


class ClassRow(Strict):
    """Accuracy and certified accuracy, at the telling radius, of the texts of one class."""

    class_: str | None = Field(alias="class")
    texts: int
    answers: int
    abstentions: int
    right: int
    accuracy: float | None
    low: float
    high: float
    certified: int
    certified_accuracy: float | None


class Quote(Strict):
    """A text and its certificate; `text` and `pair` are `None` where texts are not quoted."""

    example_id: int
    text: str | None
    pair: str | None
    label: str | None
    predicted: str | None
    right: bool | None
    radius: int | None
    ceiling: int
    p_lower: float
    n_units: int
    swappable: int | None
    details: dict[str, float]
    dead_zone: bool


class Mix(Strict):
    """Numbers of edits that are safe together."""

    insertions: int
    deletions: int
    substitutions: int


class Frontier(Quote):
    """The largest safe mixes of edits of a text, or a choice of them."""

    mixes: list[Mix]
    mixes_in_all: int


class Detail(Strict):
    """Quartiles over right answers of a quantity that certificates prove besides the radius."""

    name: str
    meaning: str
    texts: int
    lower_quartile: float
    median: float
    upper_quartile: float
    largest: float


class Evidence(Strict):
    """A contradiction that an audit found; see `robust_nlp.audit.wording.evidence`."""

    example_id: int
    text: str | None
    pair: str | None
    attacked: str | None
    difference: str | None
    attacker: str
    distance: float
    radius: int
    certified: str
    rival: str
    bound: float
    exact: list[float] | None
    votes: list[int]
    alpha: float


class Audit(Strict):
    """What an audit of the certificates found; see `robust_nlp.audit.verdict.Verdict`."""

    passed: bool
    sentences: list[str]
    texts: int
    wrong: int
    allowed: int
    candidates: int
    judged: int
    coverage: dict[str, int]
    confirmed: int
    forwards: int
    seconds: float
    contradictions: list[Evidence]
    settings: dict[str, Any]


class CleanScore(Strict):
    """Accuracy on texts as they are, abstentions wrong and left out."""

    accuracy: Estimate
    abstained: float
    answered_only: Estimate | None


class AnsweredOnly(Strict):
    """Accuracy and robustness score of the texts with answers."""

    texts: int
    accuracy: Estimate
    score: Estimate


class Rate(Strict):
    """What a perturbation at one rate does; see `robust_nlp.scoring.measured.point`."""

    rate: float
    accuracy: Estimate
    score: Estimate
    p_value: float
    attack_success: float | None
    abstained: float
    empty: float
    edits: float
    answered_only: AnsweredOnly | None


class GroupRate(Strict):
    """Accuracy and robustness score of a group of texts at one rate."""

    rate: float
    accuracy: Estimate
    score: Estimate


class ScoreLength(Strict):
    """Scores of texts of about the same length in words."""

    shortest: int
    longest: int
    texts: int
    clean_accuracy: Estimate
    points: list[GroupRate]


class ScoreClass(Strict):
    """Scores of the texts of one class."""

    class_: str = Field(alias="class")
    texts: int
    clean_accuracy: Estimate
    points: list[GroupRate]


class Score(Strict):
    """Accuracy of one classifier under a perturbation at all rates."""

    classifier: str
    perturbation: str
    draws: int
    largest_rate: float
    area: Estimate
    mean_score: Estimate
    points: list[Rate]
    lengths: list[ScoreLength]
    classes: list[ScoreClass]


class Scores(Strict):
    """Robustness scores; see `robust_nlp.scoring.tables.RobustnessScores`."""

    schema_: int = Field(alias="schema")
    texts: int
    classifiers: list[str]
    perturbations: list[str]
    labels: list[str]
    clean: dict[str, CleanScore]
    scores: list[Score]
    comparisons: list[dict[str, Any]]


class Attacks(Strict):
    """What attacks came to, by classifier; see `robust_nlp.attacks`."""

    methods: str
    classifiers: dict[str, Open]


class Cost(Strict):
    """Votes and time of a certification; `None` where unknown, or without a limit."""

    votes_asked: int
    votes_classified: int
    votes_at_most: int | None
    votes_saved: int | None
    share_saved: float | None
    process_seconds: float
    texts_per_process_second: float | None
    stage_seconds: float | None
    processes: int | None


class Methods(Strict):
    """How the numbers came about."""

    edit: str
    attacker: str
    not_covered: list[str]
    noise: str
    dead_zone: str | None
    votes: str
    mechanism: dict[str, Any]
    read: dict[str, Any]
    plan: dict[str, Any]
    seed: int
    model: dict[str, Any]
    certified_model: str | None
    data: dict[str, Any]
    versions: dict[str, str]
    host: dict[str, Any]
    command: str | None
    git_commit: str | None


class ReportFile(Strict):
    """The file report.json of `robust-nlp report`."""

    schema_: int = Field(alias="schema")
    name: str
    title: str
    marks: list[str]
    unit: Literal["word", "character", "token"]
    labelled: bool
    measure: str
    labels: list[str]
    alpha: float
    alpha_of_plan: float
    summary: list[str]
    same_answer: SameAnswer | None
    telling_radius: int
    telling: CurvePoint
    accuracy: CurvePoint
    counts: Counts
    outcomes: list[Outcome]
    attackers: list[Attacker]
    lengths: list[LengthClass]
    classes: list[ClassRow]
    most_stable: list[Quote]
    most_fragile: list[Quote]
    details: list[Detail]
    detail_names: dict[str, str]
    frontiers: list[Frontier]
    audit: Audit | None
    scores: Scores | None
    attacks: Attacks | None
    cost: Cost
    methods: Methods


def report_schema() -> dict[str, Any]:
    """Return the JSON Schema of report.json."""
    return ReportFile.model_json_schema(by_alias=True)
