"""Certify a classifier of your own: how many word edits can provably not change its answers?

python examples/certify_your_classifier.py
"""

# %% A classifier is any function from a list of texts to one row of scores for each.
from small_models import LABELS, NaiveBayes, reviews

from robust_nlp import (
    CallableClassifier,
    RandomizedDeletion,
    SequentialPlan,
    SmoothedClassifier,
    certified_accuracy,
)

base = CallableClassifier(NaiveBayes(reviews("train")), labels=LABELS)
# A checkpoint goes the same way:
#   SmoothedClassifier.from_pretrained("my/model", mechanism=RandomizedDeletion(p_del=0.8))

# %% Smoothed, it lets what is left of a text vote, when words are deleted at random.
smoothed = SmoothedClassifier(base, RandomizedDeletion(p_del=0.8))

# %% One text, and another one within its certified radius.
text = (
    "Great kettle, boils fast, looks lovely on the counter and feels solid. Easy to pour, easy "
    "to clean, very happy with it and glad I bought it."
)
certificate = smoothed.certify([text], SequentialPlan(alpha=0.001), seed=0)[0]
print("One text:", certificate)

attacked = text.replace("Great kettle,", "Greta kettle,")
covered = certificate.covers(text.split(), attacked.split())
print(f"'Greta' for 'Great' is {'inside' if covered else 'outside'} the certified radius.")
print("Smoothed answer to it:", smoothed.predict([attacked]))

# %% A test set. Texts with an abstention, or certified to less, count as wrong.
test = reviews("test")
texts, labels = test.texts[:100], (test.labels or [])[:100]
certificates = smoothed.certify(texts, SequentialPlan(alpha=0.01, max_votes=1_000), seed=0)
print(f"\nOf {len(texts)} reviews, right and certified")
for radius, share in certified_accuracy(certificates, labels, range(4)).items():
    print(f"  up to {radius} edits: {share:.0%}")
answers = [c.predicted for c in certificates if c.predicted is not None]
print(f"no answer: {sum(c.abstains for c in certificates)}, {LABELS[1]}: {sum(answers)}")
print(f"too short for a certificate that says anything: {sum(c.dead_zone for c in certificates)}")
