"""Plain words for threats, mechanisms and plans."""

from __future__ import annotations

from robust_nlp.certification import ExactPlan, FixedPlan, SamplingPlan, SequentialPlan
from robust_nlp.mechanisms import TextMechanism
from robust_nlp.threats import MOVES, ThreatModel, Unit

NOUNS = {
    "insert": "insertions",
    "delete": "deletions",
    "substitute": "substitutions",
    "swap": "swaps of neighbours",
    "reorder": "any reordering, which is not counted",
}

EDIT: dict[Unit, str] = {
    "word": (
        "One edit inserts, deletes or substitutes one word. A word is what stands between white "
        "space, its punctuation included: changing any number of characters of one word is one "
        "substitution, splitting a word in two is a substitution and an insertion, and the amount "
        "of white space between words does not matter."
    ),
    "character": (
        "One edit inserts, deletes or substitutes one character. A character is a Unicode code "
        "point, white space included: a letter with a separate accent counts as two."
    ),
    "token": (
        "One edit inserts, deletes or substitutes one token of the classifier's tokenizer. One "
        "changed word may change several tokens, so that these radii are not radii in words."
    ),
}

ALLOWED_EDIT = (
    "One edit replaces one {unit} by one of its allowed substitutes. Words are compared in lower "
    "case and without the punctuation around them, and a substitute is written as the word was."
)

ATTACKER = (
    "Moves are the attacker's own, from the clean text to the attacked one: the attacker "
    "“delete” removes units from the clean text. A radius covers every text within that many "
    "moves, however it was found and whatever the attacker knows."
)

NOT_COVERED = (
    "more edits than the radius, and moves that an attacker is not listed with",
    "edits of a fixed prefix, or of the protected text of a pair",
    "another base classifier, other weights, or the base classifier without smoothing",
    "the meaning of the attacked text: a certificate does not ask whether the label still fits",
    "a prediction from few fresh votes, which may differ by chance from the certified answer",
)


#: Texts of up to so many units are looked at for the dead zone.
LONGEST_DEAD = 1_000


def moves(threat: ThreatModel) -> str:
    """Name the moves of an attacker, such as "insertions, deletions or substitutions"."""
    *front, last = [NOUNS[move] for move in MOVES if move in threat.attacker]
    named = f"{', '.join(front)} or {last}" if front else last
    return named if threat.substitutes is None else f"{named} by allowed substitutes"


def describe_edit(threat: ThreatModel) -> str:
    """Say what one edit is."""
    if threat.substitutes is None:
        return EDIT[threat.unit]
    return ALLOWED_EDIT.format(unit=threat.unit)


def count(number: int, noun: str) -> str:
    """Count things, such as "1 text" or "1,200 texts"."""
    return f"{number:,} {agree(number, noun, noun + 's')}"


def agree(number: int, one: str, many: str) -> str:
    """Choose the form that agrees with a number."""
    return one if number == 1 else many


def percent(share: float) -> str:
    """Write a share in percent, such as "30.5 %"."""
    return f"{100.0 * share:.1f} %"


def of_all(number: int, total: int) -> str:
    """Write a number with its share, such as "61 (30.5 %)"."""
    return f"{number:,} ({percent(number / total)})"


def duration(seconds: float) -> str:
    """Write a duration, such as "5 min 12 s"."""
    if seconds < 60.0:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def failure(alpha: float) -> str:
    """Say with which probability a certificate fails."""
    return f"alpha {alpha:g} per text" if alpha else "exact, without a failure probability"


def describe_dead_zone(mechanism: TextMechanism) -> str:
    """Say which texts are in the dead zone, and why."""
    lengths = [n for n in range(LONGEST_DEAD + 1) if mechanism.dead_zone(n)]
    if lengths == [0]:
        return "Only the empty text is in the dead zone: all such texts have the same answer."
    which = f"Texts of some numbers of {mechanism.unit}s"
    if lengths == list(range(len(lengths))) and len(lengths) <= LONGEST_DEAD:
        which = f"Texts of at most {count(lengths[-1], mechanism.unit)}"
    return (
        f"{which} are in the dead zone: the noise most likely leaves nothing of them, so that all "
        "texts of that length have the same answer. Their radius is true, but says nothing about "
        "the text."
    )


def describe_plan(plan: SamplingPlan) -> str:
    """Say in a sentence how many votes were cast, and when the sampling stopped."""
    match plan:
        case ExactPlan():
            return "Every noisy text was classified; no vote was drawn."
        case FixedPlan():
            return (
                f"{plan.n_selection:,} votes chose the class of a text and {plan.n_estimation:,} "
                "others bound its probability (Clopper–Pearson)."
            )
        case SequentialPlan():
            return (
                f"{plan.n_selection:,} votes chose the class of a text; others, up to a precision "
                f"of {plan.max_votes:,} votes, bound its probability. Sampling stopped as soon as "
                "the radius against the first attacker was decided; the bounds hold at all looks "
                "together (group sequential test), and against the other attackers as well, where "
                "more votes might give larger radii."
            )
