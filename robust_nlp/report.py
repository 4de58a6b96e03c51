"""Reports: what the certificates of a run say, as numbers, a page and a table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robust_nlp.attacks.wording import attacks_beside_certificates
from robust_nlp.audit.facts import audit_facts
from robust_nlp.certification.plan import most_votes
from robust_nlp.errors import DataError
from robust_nlp.recipe import Recipe
from robust_nlp.reporting import besides, breakdown, facts, words
from robust_nlp.reporting.html import render
from robust_nlp.reporting.summary import summary
from robust_nlp.reporting.terminal import terminal_table
from robust_nlp.reporting.texts import CertifiedText, certify_rows
from robust_nlp.results import RunDirectory
from robust_nlp.scoring.run import scores_beside_certificates

#: Version of the layout of report.json.
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class RobustnessReport:
    """What the certificates of a run say.

    Certificates are computed anew from the stored votes, without a model, against every attacker
    of the recipe.

    Attributes:
        recipe: The recipe of the run.
        manifest: The manifest of the run.
        texts: The texts with their certificates; one at least.
        alpha: Failure probability of one text's certificates together; 0 if all are enumerated.
        audit: What an audit of the certificates found; `None` if there was none.
        scores: Robustness scores under perturbations; `None` if none were measured.
        attacks: What attacks came to; `None` if there were none.
    """

    recipe: Recipe
    manifest: Mapping[str, Any]
    texts: Sequence[CertifiedText]
    alpha: float
    audit: Mapping[str, Any] | None = None
    scores: Mapping[str, Any] | None = None
    attacks: Mapping[str, Any] | None = None

    @classmethod
    def load(cls, run: str | Path, alpha: float | None = None) -> RobustnessReport:
        """Read a run directory and compute its certificates.

        Args:
            run: The run directory.
            alpha: Failure probability of a text's certificates, in `(0, 1)`; `None` takes the
                plan's. Choose it before looking at the results.

        Raises:
            ValueError: If alpha is out of range.
            DataError: If there are no certificates.
        """
        if alpha is not None and not 0.0 < alpha < 1.0:
            raise ValueError(
                f"alpha is a failure probability in (0, 1), such as 0.001; got {alpha!r}"
            )
        directory = RunDirectory(run)
        recipe, rows = directory.recipe(), directory.rows()
        if not rows:
            raise DataError(f"{run} holds no certificates to report; certify its recipe first")
        alpha = recipe.certify.plan.alpha if alpha is None else alpha
        texts = certify_rows(
            rows, recipe.mechanism, alpha=alpha, attackers=recipe.certify.attackers
        )
        manifest = directory.manifest()
        scores = scores_beside_certificates(run)
        return cls(
            recipe=recipe,
            manifest=manifest,
            texts=texts,
            alpha=max(text.first.alpha for text in texts),
            audit=audit_facts(directory, rows, manifest.get("labels", [])),
            scores=None if scores is None else scores.to_dict(),
            attacks=attacks_beside_certificates(run),
        )

    def to_dict(self, radii: Sequence[int] | None = None) -> dict[str, Any]:
        """Return everything that the report says as plain values, ready for JSON.

        Args:
            radii: Radii of the tables, at least 0; `None` takes the recipe's, or 0 up to the
                largest certified radius.

        Raises:
            ValueError: If a radius is negative.
        """
        recipe, texts, mechanism = self.recipe, self.texts, self.recipe.mechanism
        radii = recipe.report.radii if radii is None else radii
        if radii is not None and (not radii or min(radii) < 0):
            raise ValueError(f"radii are whole numbers from 0; got {list(radii)}")
        names = list(texts[0].certificates)
        attackers = [facts.attacker_facts(texts, name, radii) for name in names]
        counts = facts.text_facts(texts)
        labelled = texts[0].label is not None
        labels: list[str] = list(self.manifest.get("labels", []))
        stage = self.manifest.get("stages", {}).get("certify", {})
        marks = facts.run_marks(
            self.manifest.get("data", {}).get("rows"),
            limit=recipe.certify.limit,
            done=len(texts),
            complete=stage.get("complete", True),
        )
        telling = facts.telling_radius(attackers[0])
        same_answer = breakdown.same_answer(texts, labels)
        quoted = recipe.report.texts
        stable, fragile = breakdown.extremes(texts)
        return {
            "schema": SCHEMA,
            "name": recipe.name,
            "title": f"{recipe.name}: certified robustness"
            + (f" ({'; '.join(marks)})" if marks else ""),
            "marks": marks,
            "unit": mechanism.unit,
            "labelled": labelled,
            "measure": facts.measure_name(labelled),
            "labels": labels,
            "alpha": self.alpha,
            "alpha_of_plan": recipe.certify.plan.alpha,
            "summary": summary(
                counts,
                attackers[0],
                same_answer,
                unit=mechanism.unit,
                labelled=labelled,
                alpha=self.alpha,
            ),
            "same_answer": same_answer,
            "telling_radius": telling,
            "telling": facts.at(attackers[0], telling),
            "accuracy": facts.at(attackers[0], 0),
            "counts": counts,
            "outcomes": breakdown.outcomes(texts),
            "attackers": attackers,
            "lengths": breakdown.by_length(texts),
            "classes": breakdown.by_class(texts, labels, attacker=names[0], radius=telling),
            "most_stable": [breakdown.quote(each, labels, with_text=quoted) for each in stable],
            "most_fragile": [breakdown.quote(each, labels, with_text=quoted) for each in fragile],
            "details": besides.details(texts, mechanism),
            "detail_names": dict(mechanism.detail_names),
            "frontiers": besides.frontiers(
                texts, mechanism, labels, attacker=names[0], with_text=quoted
            ),
            "audit": self.audit,
            "scores": self.scores,
            "attacks": self.attacks,
            "cost": facts.cost_facts(texts, most_votes(recipe.certify.plan), stage),
            "methods": self._methods(),
        }

    def table(self, radii: Sequence[int] | None = None) -> str:
        """Return the summary and the certified accuracy per radius and attacker as plain text."""
        return terminal_table(self.to_dict(radii))

    def save_html(self, path: str | Path, radii: Sequence[int] | None = None) -> None:
        """Write the report as one page that needs neither scripts nor the network."""
        Path(path).write_text(render(self.to_dict(radii)), encoding="utf-8")

    def _methods(self) -> dict[str, Any]:
        """Say how the numbers came about."""
        recipe, plan = self.recipe, self.recipe.certify.plan
        settings = recipe.mechanism.to_dict()
        return {
            "edit": words.describe_edit(self.texts[0].first.threat),
            "attacker": words.ATTACKER,
            "not_covered": [*recipe.mechanism.not_covered, *words.NOT_COVERED],
            "noise": recipe.mechanism.description
            + ("" if recipe.denoiser is None else f" {recipe.denoiser.description}"),
            "dead_zone": words.describe_dead_zone(recipe.mechanism),
            "votes": words.describe_plan(plan),
            "mechanism": settings,
            "read": {name: self.manifest[name] for name in settings if name in self.manifest},
            "plan": {"kind": plan.kind, **dataclasses.asdict(plan)},
            "seed": recipe.seed,
            "model": dataclasses.asdict(recipe.model),
            "certified_model": recipe.certify.model,
            "data": {
                **dataclasses.asdict(recipe.data),
                "split": recipe.certify.split,
                **self.manifest.get("data", {}),
            },
            "versions": self.manifest.get("versions", {}),
            "host": self.manifest.get("host", {}),
            "command": self.manifest.get("command"),
            "git_commit": self.manifest.get("git_commit"),
        }


def write_report(
    run: str | Path,
    *,
    alpha: float | None = None,
    radii: Sequence[int] | None = None,
    html: bool = True,
) -> str:
    """Write report.json, and report.html, into a run directory.

    Args:
        run: The run directory.
        alpha: Failure probability of a text's certificates, in `(0, 1)`; `None` takes the plan's.
        radii: Radii of the tables; `None` takes the recipe's, or 0 up to the largest.
        html: Whether to write the page.

    Returns:
        The summary and the table of certified accuracy, for the terminal.

    Raises:
        ValueError: If alpha or a radius is out of range.
        DataError: If there are no certificates.
    """
    report = RobustnessReport.load(run, alpha)
    found = report.to_dict(radii)
    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    (Path(run) / "report.json").write_text(text + "\n", encoding="utf-8")
    if html:
        (Path(run) / "report.html").write_text(render(found), encoding="utf-8")
    return terminal_table(found)
