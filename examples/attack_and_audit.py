"""Attack a classifier, and its smoothed version; then look inside the certified radii.

Attacks need TextAttack: pip install "robust-nlp[attack]". The audit does not.

    python examples/attack_and_audit.py
"""

# %% A plain classifier, and the same one smoothed.
import warnings
from importlib.util import find_spec

from small_models import LABELS, NaiveBayes, reviews

from robust_nlp import CallableClassifier, RandomizedDeletion, SequentialPlan, SmoothedClassifier
from robust_nlp.attacks import AttackRecipe, AttackSuite
from robust_nlp.audit import AuditSettings, audit
from robust_nlp.errors import RobustNLPWarning

plain = CallableClassifier(NaiveBayes(reviews("train")), LABELS)
smoothed = SmoothedClassifier(plain, RandomizedDeletion(p_del=0.8))
test = reviews("test")
texts, labels = test.texts[:8], (test.labels or [])[:8]
examples = list(zip(texts, labels, strict=True))


# %% Attacks by name, or your own: any function that builds a textattack.Attack on a victim.
def swapped_letters(victim):
    """Swap neighbouring letters, in the most important words first."""
    import textattack

    return textattack.Attack(
        textattack.goal_functions.UntargetedClassification(victim),
        [textattack.constraints.pre_transformation.RepeatModification()],
        textattack.transformations.WordSwapNeighboringCharacterSwap(random_one=False),
        textattack.search_methods.GreedyWordSwapWIR(wir_method="delete"),
    )


if find_spec("textattack") is None:
    print('The attacks are left out: TextAttack is not installed. pip install "robust-nlp[attack]"')
else:
    settings = AttackRecipe(search_votes=16, judge_votes=200, check_examples=2)
    suite = AttackSuite(["deepwordbug", swapped_letters], settings=settings)
    for name, victim in {"plain": plain, "smoothed": smoothed}.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RobustNLPWarning)
            report = suite.run(victim, examples)
        worst = report.summary()["worst_case"]
        print(
            f"{name}: right {worst['clean_accuracy']['value']:.0%}, "
            f"under attack {worst['robust_accuracy']['value']:.0%}; {worst['outcomes']}"
        )
        for row in report.worst():
            if row.outcome == "success":
                print(f"  {row.attack}, {row.edits} edits: {row.found}")
        for warning in caught:  # what detectors say about the attacks themselves
            print("  Caution:", warning.message)

# %% The audit searches the certified balls by itself: a contradiction would be a bug, or bad luck.
certificates = smoothed.certify(texts, SequentialPlan(alpha=0.01, max_votes=1_000), seed=0)
print("certified radii:", [certificate.radius for certificate in certificates])
settings = AuditSettings(forwards=600, candidates=200, judge_votes=300)
verdict = audit(smoothed, texts, certificates, settings)
print(f"audit: {verdict.candidates:,} texts tried, {len(verdict.contradictions)} contradictions")
assert verdict.passed
