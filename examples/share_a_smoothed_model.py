"""Train under noise from a recipe, certify, and share the smoothed model as plain files.

python examples/share_a_smoothed_model.py
"""

# %% A recipe, as values in place of a YAML file. Your `model.base` is a folder or a Hub id.
from pathlib import Path

from small_models import write_small_bert

from robust_nlp import SequentialPlan, SmoothedClassifier, pipeline
from robust_nlp.card import model_card
from robust_nlp.recipe import recipe_from_dict

recipe = recipe_from_dict(
    {
        "name": "reviews",
        "model": {"base": write_small_bert("small-bert"), "device": "cpu", "max_length": 64},
        "data": {"path": "embedded:reviews"},
        "mechanism": {"kind": "randomized_deletion", "p_del": 0.7},
        "train": {
            "rates": [0.3, 0.7],
            "selection_limit": 40,
            "args": {
                "num_train_epochs": 3,
                "learning_rate": 3e-3,
                "disable_tqdm": True,
                "logging_strategy": "no",
            },
        },
        "certify": {
            "limit": 24,
            "plan": {"kind": "sequential", "alpha": 0.01, "max_votes": 300},
        },
    }
)

# %% Train, certify, and write the model card from what was measured.
run = pipeline.train(recipe, "runs/reviews")
pipeline.certify(recipe, "runs/reviews")
card = model_card(run.path)
print("\n".join(card.splitlines()[:22]), "\n...")

# %% What is shared: weights as safetensors, the tokenizer, smoothing.json, the card. No code.
smoothed = SmoothedClassifier.from_pretrained(run.model, device="cpu")
smoothed.save_pretrained("shared")
Path("shared/README.md").write_text(card, encoding="utf-8")
print("files:", sorted(path.name for path in Path("shared").iterdir()))
# smoothed.push_to_hub("me/robust-reviews", card=card)

# %% Whoever has the files gets the same answers and certificates.
theirs = SmoothedClassifier.from_pretrained("shared", device="cpu")
texts = ["Brilliant. Works perfectly, looks great and the price is fair.", "Broke after one day."]
plan = SequentialPlan(alpha=0.01, max_votes=300)
assert theirs.certify(texts, plan) == smoothed.certify(texts, plan)
for text, certificate in zip(texts, theirs.certify(texts, plan), strict=True):
    print(f"{text} -> {certificate}")
