"""Smoothed classifiers that are called like a `text-classification` pipeline of transformers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from robust_nlp.base_classifier import Text
from robust_nlp.certification.certificates import Certificate, certificate_from_votes
from robust_nlp.certification.plan import SamplingPlan, SequentialPlan
from robust_nlp.certification.votes import VoteCounts
from robust_nlp.errors import DataError
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.threats import attacker_name, parse_attacker

#: Says that `top_k` was not given: one answer a text, as from a pipeline of transformers.
ONE: Any = object()

#: Entries of a text or a pair of texts, as in transformers.
_TEXT, _PAIR = "text", "text_pair"


class SmoothedPipeline:
    """Answer texts like `transformers.TextClassificationPipeline`, in the same nesting of lists.

    An answer is `{"label": ..., "score": ...}`. The score is the share of the votes that the label
    got, an estimate of its probability under noise: scores of all labels add up to 1. It is no
    bound; `certify=True` adds one. Where the votes leave a doubt, the classifier abstains: its
    answer is `{"label": None, "score": ...}` with the score of the leading label; with `top_k`,
    this comes before the ranking of the labels, and counts as one of the `top_k`.

    With `certify=True`, an answer has also
    `radius`: certified radius in whole edits, `None` on abstention;
    `attacker` and `unit`: against which moves, and edits of what;
    `alpha`: probability that radius or label are wrong, 0 if every noisy text was classified;
    `p_lower`: what the probability of the label under noise is at least;
    `dead_zone` and `vacuous`: whether the radius says nothing, see `Certificate`.
    In a ranking, its first entry has them.

    An answer depends on its text, the seed and the settings alone.

    Attributes:
        task: "text-classification".
        smoothed: The smoothed classifier.
        label_mapping: Class index of each label, and `None` for an abstention, for
            `evaluate.evaluator`. Metrics that take no `None` need a number there that is no class:
            `{**pipe.label_mapping, None: -1}`.

    Args:
        smoothed: The smoothed classifier.
        plan: How many votes, at which alpha; `None` takes up to 2,000 votes at alpha 0.001 and
            stops at the first certainty, or, to certify, `SequentialPlan()`.
        seed: Seed of the noise, at least 0.
        attacker: The attacker's moves; `None` takes all that the mechanism certifies.
        certify: Whether answers have certificates.
        abstain: Whether to abstain in doubt; otherwise the leading label is the answer, without
            any guarantee (its radius is `None`).
    """

    task = "text-classification"

    def __init__(
        self,
        smoothed: SmoothedClassifier,
        *,
        plan: SamplingPlan | None = None,
        seed: int = 0,
        attacker: Iterable[str] | str | None = None,
        certify: bool = False,
        abstain: bool = True,
    ) -> None:
        certifies = smoothed.mechanism.certifies
        self.smoothed = smoothed
        self.label_mapping: dict[str | None, int | None] = {
            **{label: i for i, label in enumerate(smoothed.labels)},
            None: None,
        }
        self._plan, self._seed = plan, seed
        self._attacker = certifies if attacker is None else parse_attacker(attacker)
        smoothed.mechanism.check_attacker(self._attacker)
        self._certify, self._abstain = certify, abstain

    @property
    def model(self) -> Any:
        """The model of the base classifier; `None` if it has none."""
        return getattr(self.smoothed.base, "model", None)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the base classifier; `None` if it has none."""
        return getattr(self.smoothed.base, "tokenizer", None)

    def __call__(
        self,
        inputs: Any,
        *,
        top_k: int | None = ONE,
        certify: bool | None = None,
        truncation: bool = True,
    ) -> Any:
        """Answer one text or many.

        Args:
            inputs: A text; a pair, as `{"text": ..., "text_pair": ...}` or a tuple; an iterable of
                these; or a data set with a column `text` and perhaps one `text_pair`, whose other
                columns are left alone.
            top_k: Labels to rank at most, at least 1; `None` ranks all. Without it, the answer
                alone is returned.
            certify: Whether answers have certificates; `None` takes what the pipeline was made
                with.
            truncation: Must be true: texts are truncated after the noise, never before.

        Returns:
            As in transformers: for a text, a list of one answer; for a pair, an answer; for many,
            a list of answers. With `top_k`, a ranking (list) in place of each answer, and alone
            for a text.

        Raises:
            DataError: If an input is neither a text nor a pair.
            ValueError: If `top_k` is below 1, or texts are not to be truncated.
        """
        if top_k is not ONE and top_k is not None and top_k < 1:
            raise ValueError(f"top_k is a number of labels of at least 1, or None; got {top_k!r}")
        if not truncation:
            raise ValueError(
                "noisy texts are always truncated to what the model reads, after the noise; leave "
                "truncation=True"
            )
        alone = isinstance(inputs, str | tuple | Mapping)
        texts = [_text(inputs, 0)] if alone else _texts(inputs)
        found = self._rank(texts, self._certify if certify is None else certify)
        if top_k is not ONE:
            cut = [ranking[:top_k] for ranking in found]
            return cut[0] if alone else cut
        answers = [ranking[0] for ranking in found]
        return answers[0] if alone and not isinstance(inputs, str) else answers

    def _rank(self, texts: list[Text], certify: bool) -> list[list[dict[str, Any]]]:
        """Return the labels of each text by falling score, the answer first."""
        quick = SequentialPlan(max_votes=2_000, max_radius=0)
        plan = self._plan or (SequentialPlan() if certify else quick)
        records = self.smoothed.votes(texts, plan, seed=self._seed, attacker=self._attacker)
        rankings = []
        for record in records:
            certificate = certificate_from_votes(
                record.votes,
                self.smoothed.mechanism,
                alpha=plan.alpha or 0.5,
                attacker=self._attacker,
            )
            ranking = self._labels(record.votes, certificate)
            if certify:
                ranking[0] |= _certified(certificate)
            rankings.append(ranking)
        return rankings

    def _labels(self, votes: VoteCounts, certificate: Certificate) -> list[dict[str, Any]]:
        shares = vote_shares(votes)
        order = sorted(range(len(shares)), key=lambda i: (i != certificate.predicted, -shares[i]))
        labels: list[str | None] = list(self.smoothed.labels)
        ranking = [{"label": labels[i], "score": shares[i]} for i in order]
        if certificate.abstains and self._abstain:
            return [{"label": None, "score": ranking[0]["score"]}, *ranking]
        return ranking


def vote_shares(votes: VoteCounts) -> list[float]:
    """Estimate the probability of each class under noise, without any bound.

    Enumerated noisy texts count with their probability, the others by their share of the draws.
    """
    drawn = votes.looks[-1] if votes.looks else votes.selection
    total = sum(drawn)
    if not total:
        seen = sum(votes.exact)
        return [mass / seen for mass in votes.exact]
    return [
        mass + votes.remainder * count / total
        for mass, count in zip(votes.exact, drawn, strict=True)
    ]


def _certified(certificate: Certificate) -> dict[str, Any]:
    return {
        "radius": certificate.radius,
        "attacker": attacker_name(certificate.threat.attacker),
        "unit": certificate.threat.unit,
        "alpha": certificate.alpha,
        "p_lower": certificate.p_lower,
        "dead_zone": certificate.dead_zone,
        "vacuous": certificate.vacuous,
    }


def _texts(inputs: Any) -> list[Text]:
    from datasets import Dataset, IterableDataset

    if not isinstance(inputs, Iterable):
        raise DataError(f"expected a text, a pair of texts, or many of them; got {inputs!r:.80}")
    rows = isinstance(inputs, Dataset | IterableDataset)
    # One by one: the columns that evaluate passes are lists whose elements come from elsewhere.
    return [_text(each, position, row=rows) for position, each in enumerate(inputs)]


def _text(given: Any, position: int, *, row: bool = False) -> Text:
    """Return one input as a text or a pair of texts."""
    if isinstance(given, Mapping):
        others = sorted(set(given) - {_TEXT, _PAIR}, key=str)
        pair = (given.get(_TEXT), given.get(_PAIR))
        if isinstance(pair[0], str) and isinstance(pair[1], str | None) and (row or not others):
            return pair[0] if pair[1] is None else (pair[0], pair[1])
    elif isinstance(given, str):
        return given
    elif isinstance(given, tuple) and [type(part) for part in given] == [str, str]:
        return given[0], given[1]
    raise DataError(
        f'expected a text, or a pair as {{"text": ..., "text_pair": ...}}, at position {position}; '
        f"got {given!r:.80}"
    )
