"""Training texts rewritten: copies, adversarial examples, and perturbations as environments.

Augmenters are settings with a `kind`, and rewrite a text with randomness that belongs to it:

    from robust_nlp.augmentation import AugmentedRows, Copies, DeleteWords, RefreshRows, Typos

    rows = AugmentedRows(rows, Copies(augmenters=[DeleteWords(), Typos()], copies=2), seed=0)
    collator = NoisyCollator(tokenizer, None, max_length=256)  # of robust_nlp.training.collators
    trainer = Trainer(
        train_dataset=rows, data_collator=collator, callbacks=[RefreshRows([rows])], ...
    )

Cheap augmenters draw anew in each epoch, while batches are made. Dear ones (those of TextAttack)
make copies once, by `augment_rows`, and adversarial examples are made every few epochs, by
`AdversarialRows`; both are kept on disk.
"""

from importlib import import_module
from typing import Any

from robust_nlp.augmentation.base import Augmenter, augment
from robust_nlp.augmentation.importance import DeleteImportantWords, word_importance
from robust_nlp.augmentation.lengths import Crop
from robust_nlp.augmentation.noise import Noise
from robust_nlp.augmentation.settings import (
    Adversarial,
    AnyAugmenter,
    Copies,
    Environments,
    augmenter_from,
)
from robust_nlp.augmentation.textattack_augmenter import TextAttackAugmenter
from robust_nlp.augmentation.words import DeleteWords, SwapWords, Typos

#: Names whose modules import torch or transformers, and so wait until somebody asks for them.
_LATER = {
    "AdversarialExamples": "robust_nlp.augmentation.adversarial",
    "AdversarialRows": "robust_nlp.augmentation.adversarial",
    "AugmentedRows": "robust_nlp.augmentation.rows",
    "EnvironmentRows": "robust_nlp.augmentation.rows",
    "RefreshRows": "robust_nlp.augmentation.refresh",
    "Victim": "robust_nlp.augmentation.victim",
    "augment_rows": "robust_nlp.augmentation.copies",
}

__all__ = [
    "Adversarial",
    "AdversarialExamples",
    "AdversarialRows",
    "AnyAugmenter",
    "AugmentedRows",
    "Augmenter",
    "Copies",
    "Crop",
    "DeleteImportantWords",
    "DeleteWords",
    "EnvironmentRows",
    "Environments",
    "Noise",
    "RefreshRows",
    "SwapWords",
    "TextAttackAugmenter",
    "Typos",
    "Victim",
    "augment",
    "augment_rows",
    "augmenter_from",
    "word_importance",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'robust_nlp.augmentation' has no attribute {name!r}")
