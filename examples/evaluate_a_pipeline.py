"""Use a smoothed classifier where a text-classification pipeline is expected, and evaluate it.

python examples/evaluate_a_pipeline.py
"""

# %% A smoothed classifier.
from datasets import Dataset
from small_models import LABELS, NaiveBayes, reviews

from robust_nlp import CallableClassifier, RandomizedDeletion, SequentialPlan, SmoothedClassifier
from robust_nlp.evaluating import SmoothedEvaluator
from robust_nlp.scoring import AbstentionAwareAccuracy, CertifiedAccuracy, WorstGroupAccuracy

base = CallableClassifier(NaiveBayes(reviews("train")), LABELS)
smoothed = SmoothedClassifier(base, RandomizedDeletion(p_del=0.7))

# %% It answers like a pipeline of transformers, with certificates if you like.
pipe = smoothed.as_pipeline()
print(pipe("Solid, quiet and quick: a great buy."))
print(pipe(["Loved it.", "It broke, and nobody answers my mails."], top_k=None))
print(pipe("Solid, quiet and quick: a great buy.", certify=True))

# %% `evaluate` asks it for a data set. Where votes leave a doubt, there is no label.
test = reviews("test")
data = Dataset.from_dict({"text": test.texts[:60], "label": (test.labels or [])[:60]})
found = SmoothedEvaluator().compute(
    pipe, data, metric=AbstentionAwareAccuracy(), label_mapping=pipe.label_mapping
)
print({name: found[name] for name in ("accuracy", "accuracy_of_answers", "abstention_rate")})

# %% Metrics take columns, from wherever they come: certificates, or domains.
certificates = smoothed.certify(data["text"], SequentialPlan(alpha=0.01, max_votes=500))
predictions = [certificate.predicted for certificate in certificates]
certified = CertifiedAccuracy().compute(
    predictions=predictions,
    references=data["label"],
    certified_radii=[certificate.radius for certificate in certificates],
    radii=(0, 1, 2),
)
print({name: round(value, 3) for name, value in certified.items()})
worst = WorstGroupAccuracy().compute(
    predictions=predictions, references=data["label"], groups=(test.domains or [])[:60]
)
print(f"worst domain: {worst['worst_group']}, {worst['worst_group_accuracy']:.1%} right")
