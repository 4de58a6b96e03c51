"""Which method, at what cost: nothing, augmentation and deletion on the same texts.

python examples/compare_methods.py
"""

# %% A recipe with methods, as values in place of a YAML file; each replaces entries of the recipe.
import json
from pathlib import Path

from small_models import write_small_bert

from robust_nlp.compare.drive import compare_methods
from robust_nlp.recipe import recipe_from_dict

plan = {"kind": "sequential", "alpha": 0.05, "max_votes": 100}
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
        "certify": {"limit": 24, "plan": plan},
        "score": {
            "limit": 24,
            "plan": plan,
            "perturbations": [{"kind": "delete_words", "order": "most_important", "rates": [0.3]}],
        },
        "compare": {
            "baseline": "none",
            "stages": ["score", "certify"],  # and "attack", with TextAttack
            "timed": 4,
            "methods": {
                "none": {
                    "smoothed": False,
                    "set": {"train.noise": False, "train.rates": None},
                },
                "augmentation": {
                    "smoothed": False,
                    "set": {
                        "train.noise": False,
                        "train.rates": None,
                        "train.augmentation": {
                            "augmenters": [{"kind": "delete_words", "rate": 0.3}]
                        },
                    },
                },
                "deletion": {},
                # The classifier of `none` as it is. `set: {certify.model: FOLDER}` takes yours.
                "untrained": {"model_of": "none"},
            },
        },
    }
)

# %% Train, measure, compare; a second call, or one after an interruption, does what is missing.
print(compare_methods(recipe, "runs/comparison"))

# %% The same numbers for programs; report.html is the page for people.
facts = json.loads(Path("runs/comparison/compare.json").read_text(encoding="utf-8"))
for method in facts["methods"]:
    answer = method["cost"]["answer"]
    print(f"{method['method']}: {answer['calls']:.0f} calls, {1000 * answer['seconds']:.1f} ms")
