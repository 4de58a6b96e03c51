"""Audit texts: search the certified balls of each, and have the best candidates judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from robust_nlp.audit.ball import Ball, Units
from robust_nlp.audit.judge import judge
from robust_nlp.audit.oracle import Oracle
from robust_nlp.audit.records import AuditedBall, AuditedText, JudgedText
from robust_nlp.audit.search import Found, search
from robust_nlp.audit.settings import AuditSettings
from robust_nlp.audit.verdict import Verdict, verdict
from robust_nlp.audit.writing import Writer, words_by_class
from robust_nlp.base_classifier import Text, parts
from robust_nlp.certification.certificates import Certificate
from robust_nlp.smoothing import SmoothedClassifier
from robust_nlp.threats import attacker_name
from robust_nlp.units import keyed_rng, text_key


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
            attacker_name(certificate.threat.attacker): writer.ball(certificate, words[predicted])
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
        candidates=settings.candidates,
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


def audit(
    smoothed: SmoothedClassifier,
    texts: Sequence[Text],
    certificates: Sequence[Certificate | Sequence[Certificate]],
    settings: AuditSettings | None = None,
    *,
    words: Mapping[int, Sequence[str]] | None = None,
    on_done: Callable[[AuditedText], None] | None = None,
) -> Verdict:
    """Look inside certified balls for texts with another answer.

    Each certificate's ball is searched with its own moves and radius: all of its texts where they
    are few, else a beam and random edits. The most promising candidates, and the clean text, are
    judged by many more votes under other noise. That nothing is found is no proof.

    Args:
        smoothed: The smoothed classifier.
        texts: Texts, or pairs of texts of which one is protected.
        certificates: For each text its certificate, or those against several attackers.
        settings: How hard to look; `None` takes the defaults.
        words: For each certified class, what an attacker may want to write; `None` takes what is
            telling in the texts, see `words_by_class`.
        on_done: Called with each text as it is finished.

    Raises:
        ValueError: If there are not as many certificates as texts, or those of a text disagree.
    """
    settings = settings or AuditSettings()
    own = [[each] if isinstance(each, Certificate) else list(each) for each in certificates]
    if len(own) != len(texts):
        raise ValueError(f"got certificates for {len(own)} texts and {len(texts)} texts")
    if words is None:
        predicted = [each[0].predicted if each else None for each in own]
        words = words_by_class(smoothed, texts, predicted, size=settings.words)
    rows = []
    for i, (text, each) in enumerate(zip(texts, own, strict=True)):
        rows.append(audit_text(smoothed, text, each, settings, words=words, example_id=i))
        if on_done is not None:
            on_done(rows[-1])
    return verdict(rows, alpha=settings.alpha)
