"""Measure robustness scores: by how much does accuracy fall when texts are perturbed?

python examples/measure_robustness.py
"""

# %% The same base classifier twice: smoothed, and as it is.
from small_models import LABELS, NaiveBayes, reviews

from robust_nlp import CallableClassifier, RandomizedDeletion, SequentialPlan, SmoothedClassifier
from robust_nlp.scoring import DeleteWords, SwapNeighbours, Typos, score

plain = CallableClassifier(NaiveBayes(reviews("train")), LABELS)
smoothed = SmoothedClassifier(plain, RandomizedDeletion(p_del=0.5))

# %% Words go missing at random, or the most important first; neighbours change places; typos.
rates = (0.2, 0.4, 0.6)
perturbations = [
    DeleteWords(rates=rates, draws=2),
    DeleteWords(rates=rates, order="most_important"),
    SwapNeighbours(rates=rates),
    Typos(rates=rates),
]
test = reviews("test")
found = score(
    {"plain": plain, "smoothed": smoothed},
    test.texts[:80],
    (test.labels or [])[:80],
    perturbations,
    plan=SequentialPlan(alpha=0.05, max_votes=200, max_radius=0),
).to_dict()

# %% The score is clean accuracy less accuracy: smaller is better. Abstentions count as wrong.
for name, clean in found["clean"].items():
    print(f"{name}: {clean['accuracy']['value']:.1%} right on clean texts")
print(f"\n{'robustness score at':<58}" + "".join(f"{rate:>22.0%}" for rate in rates))
for curve in found["scores"]:
    cells = [
        f"{p['score']['value']:+.3f} [{p['score']['low']:+.2f}, {p['score']['high']:+.2f}]"
        for p in curve["points"]
    ]
    print(f"{curve['classifier']:<10}{curve['perturbation']:<48}" + " ".join(cells))

# %% Which of the two is more accurate? Differences pair the texts; p-values are exact.
print("\nAccuracy of the plain less that of the smoothed classifier")
for row in found["comparisons"]:
    if row["rate"] in (0.0, rates[-1]):
        gap = row["accuracy"]
        print(
            f"  {row['perturbation']} {row['rate']:.0%}: {gap['value']:+.3f} "
            f"[{gap['low']:+.2f}, {gap['high']:+.2f}], p {row['accuracy_p_value']:.2f}"
        )
