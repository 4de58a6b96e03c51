"""What to attack, with which recipes, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from robust_nlp.attacks.needs import Given, When
from robust_nlp.errors import did_you_mean
from robust_nlp.scoring.settings import Reading
from robust_nlp.swaps import SwapSetting

#: Our names of TextAttack's recipes, the cheapest first by questions and seconds an example.
NAMES: dict[str, str] = {
    "checklist": "CheckList2020",
    "deepwordbug": "DeepWordBugGao2018",
    "a2t": "A2TYoo2021",
    "textfooler": "TextFoolerJin2019",
    "textbugger": "TextBuggerLi2018",
    "pwws": "PWWSRen2019",
    "bae": "BAEGarg2019",
    "bert-attack": "BERTAttackLi2020",
    "pruthi": "Pruthi2019",
    "leap": "LEAP2023",
    "bad-characters": "BadCharacters2021",
    "iga": "IGAWang2019",
    "kuleshov": "Kuleshov2017",
    "fast-genetic": "FasterGeneticAlgorithmJia2019",
    "genetic": "GeneticAlgorithmAlzantot2018",
    "pso": "PSOZang2020",
    "clare": "CLARE2020",
}

#: Votes of the judge for each vote of the search, at least.
LEAST_JUDGED = 10


@dataclass(frozen=True, kw_only=True)
class AttackRecipe:
    """Attacks on the texts of a split.

    Attributes:
        classifiers: Who is attacked: "smoothed", which answers by votes, as it is certified;
            "plain", the base classifier without noise and denoiser.
        attacks: Names of TextAttack's recipes, such as "deepwordbug", "pwws" and "textfooler".
            "a2t" is put together from `swaps` and NLTK's tagger, without a sentence encoder.
        split: Split that is attacked.
        limit: Texts at most, from the start; `None` takes all.
        swaps: For "a2t", which words may replace which; see `robust_nlp.swaps.AllowedSwaps`. With
            `stand_ins`, also the table of neighbours in place of word vectors.
        stand_ins: "missing" lets other things stand in for tables and models that a recipe cannot
            have (`robust-nlp doctor` says which), and its results then carry another name, such as
            "textfooler[neighbours-8, minilm]"; "never" refuses the recipe.
        masked_lm: Folder of a masked language model, in place of those of "bae", "bert-attack" and
            "clare", in whose names it then stands; `None` takes their own.
        survivors_only: Whether an attack gets only the examples on which cheaper ones failed. The
            worst case over the attacks is the same, and costs less.
        max_forwards: Forwards of the base classifier per example and attack at most, those of the
            judge included; `None` for no limit.
        max_seconds: Seconds per example and attack at most: those of its own Python code, and its
            part of shared forwards; `None` for no limit. Which examples end in this way depends
            on the machine.
        width: Examples that are attacked at once; changes the speed, never a result.
        check_examples: Examples of each control experiment; see `robust_nlp.attacks.detectors`.
        search_votes: For smoothed classifiers, noisy texts per question of the search.
        redraw: Rounds of questions after which the search draws new noise, at least 1.
        judge_votes: Hard votes of the judge per text, at least 10 times the votes of the search.
            These ten times are enough where they leave no doubt.
        judgements: Texts per example and attack that the judge looks at, the clean one not
            counted.
        alpha: Probability that the judge confirms a wrong text in an attack on an example, in
            `(0, 1)`; it is shared out among the judgements.

    Raises:
        ValueError: If a setting is unknown or out of range.
    """

    classifiers: tuple[Reading, ...] = ("smoothed", "plain")
    attacks: tuple[str, ...] = ("deepwordbug", "pwws", "textfooler")
    split: str = "test"
    limit: int | None = 200
    swaps: SwapSetting | None = field(default=None, hash=False)
    stand_ins: When = "never"
    masked_lm: str | None = None
    survivors_only: bool = True
    max_forwards: int | None = None
    max_seconds: float | None = 600.0
    width: int = 32
    check_examples: int = 32
    search_votes: int = 32
    redraw: int = 8
    judge_votes: int = 1_000
    judgements: int = 4
    alpha: float = 1e-3

    def __post_init__(self) -> None:
        if not self.attacks:
            raise ValueError("an attack recipe needs one attack or more; got none")
        for name in self.attacks:
            if name not in NAMES:
                raise ValueError(
                    f"attacks are named {', '.join(NAMES)}; got {name!r}."
                    f"{did_you_mean(str(name), NAMES)}"
                )
        if not self.classifiers or len(set(self.classifiers)) < len(self.classifiers):
            raise ValueError(
                f"classifiers must be one or more, each once; got {list(self.classifiers)}"
            )
        if len(set(self.attacks)) < len(self.attacks):
            raise ValueError(f"each attack goes once; got {', '.join(self.attacks)}")
        if self.stand_ins not in get_args(When):
            raise ValueError(
                f"stand_ins must be {' or '.join(get_args(When))}; got {self.stand_ins!r}"
            )
        a2t, swaps = "a2t" in self.attacks, self.swaps is not None
        if (a2t and not swaps) or (swaps and not a2t and self.stand_ins == "never"):
            raise ValueError(
                'swaps, such as a neighbour file, belong to the attack "a2t" and, with stand_ins: '
                f"missing, to others; got attacks={list(self.attacks)} and "
                f"swaps={self.swaps!r:.40}"
            )
        check_limits(self)

    @property
    def given(self) -> Given:
        """What recipes may work with."""
        return Given(stand_ins=self.stand_ins, swaps=self.swaps, masked_lm=self.masked_lm)


def check_limits(settings: AttackRecipe) -> None:
    """Raise ValueError if a number is out of range."""
    for name in (
        "limit",
        "max_forwards",
        "width",
        "check_examples",
        "search_votes",
        "redraw",
        "judgements",
    ):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; got {name}={value}")
    if settings.max_seconds is not None and not settings.max_seconds > 0.0:
        raise ValueError(f"max_seconds must be above 0; got {settings.max_seconds!r}")
    if settings.judge_votes < LEAST_JUDGED * settings.search_votes:
        raise ValueError(
            f"judge_votes must be at least {LEAST_JUDGED} times search_votes, so that the judge "
            f"sees through the noise of the search; got judge_votes={settings.judge_votes} and "
            f"search_votes={settings.search_votes}"
        )
    if not 0.0 < settings.alpha < 1.0:
        raise ValueError(
            f"alpha is a failure probability in (0, 1), such as 0.001; got {settings.alpha!r}"
        )
