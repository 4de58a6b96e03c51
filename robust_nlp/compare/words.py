"""The findings of a comparison in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from robust_nlp.compare.facts import certified_at, hardly_reads, score_of
from robust_nlp.compare.front import CLOSE
from robust_nlp.compare.tables import milliseconds, perturbation_name
from robust_nlp.reporting.words import agree, count
from robust_nlp.reporting.words import percent as share
from robust_nlp.scoring.tables import CLEAN
from robust_nlp.scoring.wording import estimate, p_value

Facts = Mapping[str, Any]

METHODS = (
    "All methods read the same texts, the first of the split, with the same seeds, plans of votes "
    "and attacks. A smoothed method answers by votes, and an abstention counts as wrong; one "
    "without smoothing is the classifier as it is, of which nothing is certified (–). Differences "
    "pair each text with itself; p is exact and two-sided, and not corrected for how many there "
    "are. “Same answer” is the share of the class that a method gives most often among its answers "
    "to texts as they are; a method that gives nearly all texts one class, which they are not of, "
    "is left out of the summary and of Pareto fronts. These compare the estimates themselves: "
    "brackets say how sure they are."
)

SCORES = (
    "The robustness score is the area between clean accuracy and the accuracy curve, over rates "
    "from 0 to the largest. Importance of words is that for each method's own classifier, without "
    "noise."
)

CERTIFIED = (
    "Certified accuracy is the share of texts that are answered rightly and provably stay so under "
    "that many edits; at radius 0 it is accuracy with the votes of certificates, which may be more "
    "than those of an answer. Radii are compared within one attacker; “by allowed words” means "
    "each method's own sets of substitutes."
)

ATTACKED = (
    "Accuracy under attack counts texts that no attack broke; other attacks may leave less. Doubts "
    "of the judge and abstentions count as broken."
)

COST = (
    "The time of an answer is that of one text at a time; the votes stop at the first certainty. "
    "The time of a certificate is that of one process with many texts at a time. Calls are texts "
    "that the classifier reads; in front of it, a denoiser reads each as well. Training counts all "
    "trainings that a method rests on. Memory is what loading the method and answering held at "
    "most beyond what was held before: of tensors on a GPU, else of the process. Times that differ "
    f"by less than {CLOSE - 1:.0%} count as equal on Pareto fronts."
)


def title(facts: Facts) -> str:
    """Name the comparison, and how it falls short of the whole."""
    missing = [method["method"] for method in facts["methods"] if method["missing"]]
    marks = f" (incomplete: {', '.join(missing)})" if missing else ""
    return f"{facts['name']}: which method, at what cost?{marks}"


def findings(facts: Facts) -> list[str]:
    """Say what came out for each method, and which are on the Pareto fronts."""
    baseline = next(m for m in facts["methods"] if m["method"] == facts["baseline"])
    said = [_finding(facts, method, baseline) for method in facts["methods"]]
    return [*said, *(front_sentence(front) for front in facts["fronts"])]


def front_sentence(front: Facts) -> str:
    """Say which methods are on a front, and which of them are no worse than those off it."""
    points = {point["method"]: point for point in front["points"]}
    on = [
        f"{name} ({share(points[name]['robustness'])}, {milliseconds(points[name]['cost'])} ms)"
        for name in front["front"]
    ]
    said = f"{sentence(measure(front))} against the time of an answer: on the Pareto front "
    said += f"{agree(len(on), 'is', 'are')} {_and(on)}."
    off = [f"{name} by {better}" for name, better in front["dominated"].items()]
    if off:
        said += f" Dominated, neither more robust nor clearly faster: {_and(off)}."
    if front["same_answer"]:
        names = _and(front["same_answer"])
        said += f" Left out, since nearly all answers are the same: {names}."
    return said


def measure(front: Facts) -> str:
    """Name what a front calls robustness."""
    if front["kind"] == "certified":
        edits = count(front["radius"], "edit")
        return f"certified accuracy at {edits} ({front['threat']})"
    if front["kind"] == "attacked":
        return "accuracy under the worst attack"
    return f"mean accuracy under {perturbation_name(front['perturbation'])},"


def sentence(words: str) -> str:
    """Begin with a capital letter, and leave names as they are."""
    return words[:1].upper() + words[1:]


def kind_of(method: Facts) -> str:
    """Say how a method answers, and whose classifier it takes."""
    how = "smoothed" if method["smoothed"] else "not smoothed"
    if method["trained_under_noise"] and not method["smoothed"]:
        how += ", trained under the noise"
    how += ", denoised" if method["denoised"] else ""
    if method["model_of"] is not None:
        how += f", with the classifier of {method['model_of']}"
    if method["start_from"] is not None:
        how += f", trained further from {method['start_from']}"
    return how


def cautions(facts: Facts) -> list[str]:
    """Say how many texts there are and why, what is missing, and what the numbers mean."""
    said = [_sizes(facts), *_skews(facts)]
    for stage, why in facts["left_out"].items():
        said.append(f"Left out: {stage} ({why}).")
    for method in facts["methods"]:
        for stage, why in method["missing"].items():
            said.append(f"Not in the tables: {stage} of {method['method']} ({why}).")
        if method["report"] is not None:
            said.append(
                f"{method['method']}, certificates: {' '.join(method['report']['summary'])}"
            )
        said += _attack_findings(method)
    said.append(METHODS)
    measured = facts["texts"]
    for stage, words in (("score", SCORES), ("certify", CERTIFIED), ("attack", ATTACKED)):
        said += [words] if stage in measured else []
    return [*said, COST]


def _sizes(facts: Facts) -> str:
    texts, sizes = facts["texts"], facts["sizes"]
    each = [f"{texts[stage]:,} {done}" for stage, done in _DONE.items() if stage in texts]
    rows = facts["data"]["rows"]
    said = f"Of {count(rows, 'text')} of the split, {_and(each)}, for every method the same."
    if sizes["budget"] is None:
        return said
    said += (
        f" These numbers were chosen for a budget of {sizes['budget']:g} minutes of measuring, "
        "trainings and the times of answers apart, from the time that a few texts took: about "
        f"{sizes['minutes']:.1f} minutes."
    )
    later = [m["method"] for m in facts["methods"] if m["method"] not in sizes["probes"]]
    if later:
        said += f" {_and(later)} came later, and took more."
    if sizes["minutes"] > sizes["budget"]:
        said += " The budget is too small even for the few texts on which it was tried out."
    return said


def _skews(facts: Facts) -> Iterable[str]:
    """Say which classes and domains the measured texts, the first of the split, are not like."""
    by_stage: dict[str, list[str]] = {}
    for skew in facts["data"]["skews"]:
        by_stage.setdefault(skew["stage"], []).append(
            f"{share(skew['share'])} are of the {skew['of']} “{skew['name']}”, of the split "
            f"{share(skew['share_of_split'])}"
        )
    for stage, each in by_stage.items():
        yield (
            f"Careful: the first texts of the split, which are {_DONE[stage]}, are not like the "
            f"others: {_and(each)}. Shuffle the file, once, and compare again."
        )


_DONE = {"score": "scored", "certify": "certified", "attack": "attacked"}


def _finding(facts: Facts, method: Facts, baseline: Facts) -> str:
    what = kind_of(method)
    what += ", the baseline" if method["method"] == facts["baseline"] else ""
    said = [f"{method['method']}: {what}."]
    if method["clean_accuracy"] is None:
        return f"{said[0]} Not measured yet."
    accuracy = f"Clean accuracy {estimate(method['clean_accuracy'])} %"
    differences = (method["against_baseline"] or {}).get("scores", [])
    clean = next((row for row in differences if row["perturbation"] == CLEAN), None)
    if clean is not None:
        accuracy += (
            f", {estimate(clean['accuracy'], points=True)} points against {facts['baseline']} "
            f"(p {_equals(clean['accuracy_p_value'])})"
        )
    said.append(f"{accuracy}.")
    same = method["same_answer"]
    if hardly_reads(method):
        said.append(
            f"Careful: {same['answers']:,} of {same['answered']:,} answers are “{same['class']}”, "
            f"and only {same['true']:,} of these texts {agree(same['true'], 'is', 'are')}; a "
            "classifier that hardly reads a text is hard to fool."
        )
    robust = [*_deleted(facts, method), *_proved(facts, method), *_attacked(method, facts)]
    said += [f"{sentence('; '.join(robust))}."] if robust else []
    return " ".join([*said, *_slower(method, baseline)])


def _deleted(facts: Facts, method: Facts) -> Iterable[str]:
    for name in facts["perturbations"]:
        score = score_of(method, name)
        if score is not None:
            points = estimate(score["mean_score"], points=True)
            yield f"robustness score {points} under {perturbation_name(name)}"


def _proved(facts: Facts, method: Facts) -> Iterable[str]:
    for threat in list(method["certified"] or {})[:1]:
        radius = next((r for r in facts["radii"][threat] if r >= 1), 1)
        reached = share(certified_at(method["certified"][threat], radius))
        yield f"certified accuracy {reached} at radius {radius} against {threat}"


def _attacked(method: Facts, facts: Facts) -> Iterable[str]:
    found = method["attacks"]
    if found is None:
        return
    said = f"accuracy under the worst attack {estimate(found['worst_case'])} %"
    difference = (method["against_baseline"] or {}).get("attacked")
    if difference is not None:
        said += f", {estimate(difference, points=True)} points against {facts['baseline']}"
    yield said


def _slower(method: Facts, baseline: Facts) -> Iterable[str]:
    mine, other = method["cost"]["answer"], baseline["cost"]["answer"]
    if mine is None:
        return
    said = f"An answer takes {milliseconds(mine['seconds'])} ms"
    if other is not None and method is not baseline:
        said += f", {mine['seconds'] / other['seconds']:,.1f} times that of {baseline['method']}"
    yield f"{said}."


def _attack_findings(method: Facts) -> Iterable[str]:
    """Say what detectors flagged, and whether certificates held against what attacks found."""
    if method["attacks"] is None:
        return
    name = method["method"]
    for finding in method["attacks"]["findings"]:
        if finding["flagged"]:
            yield f"Careful, {name}: {finding['words']}"
    beside = method["attacks"]["certificates"]
    if beside is not None:
        inside = len({each["example_id"] for each in beside["contradictions"]})
        said = (
            f"{name}: {count(beside['compared'], 'confirmed find')} of attacks held against "
            f"certificates, {inside:,} inside a certified radius"
        )
        if inside and beside["held"]:
            said += f"; alpha allows up to {beside['allowed']:,}"
        yield said + ("." if beside["held"] else ": a certificate is wrong.")


def _equals(p: float) -> str:
    said = p_value(p)
    return said if said.startswith("<") else f"= {said}"


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
