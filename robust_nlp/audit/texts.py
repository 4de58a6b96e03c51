"""Audit texts: search the certified balls of each, and have the best candidates judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from robust_nlp.audit.ball import Ball, Coverage, Units
from robust_nlp.audit.judge import Judgement, judge
from robust_nlp.audit.oracle import Oracle
from robust_nlp.audit.search import Found, search
from robust_nlp.audit.settings import AuditSettings
from robust_nlp.audit.writing import Writer
from robust_nlp.base_classifier import Text, parts
from robust_nlp.certification.certificates import Certificate
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.threats import attacker_name
from robust_nlp.units import keyed_rng, text_key


@dataclass(frozen=True, kw_only=True)
class AuditedBall:
    """What the search did inside one certificate's ball.

    Attributes:
        attacker: The attacker's name.
        radius: The certified radius.
        coverage: Which of its texts were tried: "ball" (all), "words" (all whose new units are in
            the list of words) or "sample".
        exact: Whether no score of the search rests on drawn votes.
        candidates: How many different texts were tried.
        margin: The lowest margin of the certified class that the search saw, `None` if none.
    """

    attacker: str
    radius: int
    coverage: Coverage
    exact: bool
    candidates: int
    margin: float | None


@dataclass(frozen=True, kw_only=True)
class JudgedText:
    """A candidate that the judge saw.

    Attributes:
        attacked: The candidate: the text that is open to edits.
        units: It as units.
        distances: Its distance from the clean text, by the name of each attacker whose certificate
            covers it.
        judgement: The votes of the judge.
    """

    attacked: str
    units: tuple[str, ...]
    distances: dict[str, float]
    judgement: Judgement


@dataclass(frozen=True, kw_only=True)
class AuditedText:
    """The audit of one text.

    Attributes:
        example_id: Position of the text.
        text_hash: Key of the text; texts with the same key have the same certificates.
        text: The clean text: that which is open to edits.
        units: It as units.
        pair: Its protected partner, if inputs are pairs.
        predicted: The certified class; `None` on abstention, where there is nothing to audit.
        alpha: Failure probability of the certificates; 0 if they are exact.
        balls: What the search did, one entry per certificate.
        judged: What the judge saw, the clean text first.
        forwards: Passes of the base classifier in the search.
        seconds: Time of one process.
    """

    example_id: int
    text_hash: str
    text: str
    units: tuple[str, ...]
    pair: str | None
    predicted: int | None
    alpha: float
    balls: tuple[AuditedBall, ...]
    judged: tuple[JudgedText, ...]
    forwards: int
    seconds: float


def audit_text(
    smoothed: SmoothedClassifier,
    text: Text,
    certificates: Sequence[Certificate],
    settings: AuditSettings,
    *,
    words: Mapping[int, Sequence[str]],
    example_id: int = 0,
) -> AuditedText:
    """Search inside the certified balls of one text, and judge what is found.

    The result depends on the arguments alone, not on texts audited before.

    Args:
        smoothed: The smoothed classifier.
        text: The text, or a pair of texts of which one is protected.
        certificates: Its certificates against one or more attackers, with the same prediction.
        settings: How hard to look.
        words: For each certified class, what an attacker may want to write.
        example_id: Position of the text.

    Raises:
        ValueError: If there is no certificate, or two predict different classes.
    """
    clock = time.perf_counter()
    predictions = {certificate.predicted for certificate in certificates}
    if len(predictions) != 1:
        raise ValueError(
            "the certificates of a text must agree on its class; got "
            f"{sorted(map(str, predictions))} for text {example_id}"
        )
    (predicted,) = predictions
    key = text_key(*parts(text))
    writer = Writer(smoothed, text)
    balls: list[AuditedBall] = []
    judged: list[JudgedText] = []
    spent = 0
    if predicted is not None:
        oracle = Oracle(
            smoothed, predicted, votes=settings.votes, seed=settings.seed, key=key, forwards=0
        )
        regions = {
            attacker_name(certificate.threat.attacker): _ball(certificate, writer, words[predicted])
            for certificate in certificates
        }
        promising: dict[str, Units] = {writer.body: writer.units}
        for i, (attacker, ball) in enumerate(regions.items()):
            oracle.left = share = (settings.forwards - spent) // (len(regions) - i)
            found = _searched(ball, oracle, writer, settings, key, attacker)
            spent += share - oracle.left
            balls.append(
                AuditedBall(
                    attacker=attacker,
                    radius=ball.radius,
                    coverage=found.coverage,
                    exact=found.exact,
                    candidates=found.candidates,
                    margin=found.margin,
                )
            )
            others = [units for units in found.best if units != ball.clean]
            for units in others[: settings.judged]:
                promising.setdefault(writer.write(units), units)
        judged = [
            _judged(smoothed, writer, attacked, regions, predicted, settings)
            for attacked in promising
        ]
    return AuditedText(
        example_id=example_id,
        text_hash=key,
        text=writer.body,
        units=writer.units,
        pair=writer.partner,
        predicted=predicted,
        alpha=max(certificate.alpha for certificate in certificates),
        balls=tuple(balls),
        judged=tuple(judged),
        forwards=spent,
        seconds=time.perf_counter() - clock,
    )


def _ball(certificate: Certificate, writer: Writer, words: Sequence[str]) -> Ball:
    allowed: Mapping[str, Collection[str]] | None = writer.allowed()
    threat = certificate.threat
    if allowed is not None:
        known = allowed
        threat = replace(threat, substitutes=lambda unit: known.get(unit, ()))
    assert certificate.radius is not None
    return Ball(
        clean=writer.units,
        threat=threat,
        radius=certificate.radius,
        words=words,
        allowed=allowed,
    )


def _searched(
    ball: Ball,
    oracle: Oracle,
    writer: Writer,
    settings: AuditSettings,
    key: str,
    attacker: str,
) -> Found:
    def write(units: Units) -> Text | None:
        body = writer.write(units)
        return writer.whole(body) if writer.split(body) in ball else None

    return search(
        ball,
        oracle,
        write,
        keyed_rng(settings.seed, key, "audit", "candidates", attacker),
        votes=settings.votes,
        exhaustive=settings.exhaustive,
        beam=settings.beam,
    )


def _judged(
    smoothed: SmoothedClassifier,
    writer: Writer,
    attacked: str,
    regions: Mapping[str, Ball],
    predicted: int,
    settings: AuditSettings,
) -> JudgedText:
    """Have a candidate judged; what it is distant from the clean text is measured anew."""
    units = writer.split(attacked)
    distances = {
        attacker: ball.threat.distance(writer.units, units) for attacker, ball in regions.items()
    }
    text = writer.whole(attacked)
    return JudgedText(
        attacked=attacked,
        units=units,
        distances={
            attacker: float(distance)
            for attacker, distance in distances.items()
            if distance <= regions[attacker].radius
        },
        judgement=judge(
            smoothed,
            text,
            predicted,
            votes=settings.judge_votes,
            seed=settings.seed,
            key=text_key(*parts(text)),
        ),
    )


def audit_texts(
    smoothed: SmoothedClassifier,
    texts: Sequence[Text],
    certificates: Sequence[Sequence[Certificate]],
    settings: AuditSettings,
    *,
    words: Mapping[int, Sequence[str]],
    first: int = 0,
    on_done: Callable[[AuditedText], None] | None = None,
) -> list[AuditedText]:
    """Audit several texts, one after the other; see `audit_text`.

    Args:
        smoothed: The smoothed classifier.
        texts: The texts.
        certificates: The certificates of each text.
        settings: How hard to look.
        words: For each certified class, what an attacker may want to write.
        first: Position of the first text.
        on_done: Called with each text as it is finished.
    """
    found = []
    for i, (text, own) in enumerate(zip(texts, certificates, strict=True), first):
        row = audit_text(smoothed, text, own, settings, words=words, example_id=i)
        found.append(row)
        if on_done is not None:
            on_done(row)
    return found
