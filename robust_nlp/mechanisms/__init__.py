"""Noise laws and their certificates, one a file."""

from robust_nlp.mechanisms.adaptive import AdaptiveDeletion
from robust_nlp.mechanisms.bag import BagDeletion
from robust_nlp.mechanisms.base import (
    NO_RADIUS,
    REMOVED,
    Law,
    LengthMechanism,
    Profile,
    Strata,
    TextMechanism,
)
from robust_nlp.mechanisms.deletion import (
    EditBudget,
    RandomizedDeletion,
    dead_zone_length,
    deletion_frontier,
    deletion_margin,
    deletion_radius,
    deletion_threshold_radius,
)
from robust_nlp.mechanisms.masking import RandomMasking, masking_loss, masking_radius
from robust_nlp.mechanisms.reordering import Reordering, reordering_loss

#: The mechanisms that a recipe may name by `kind`.
AnyMechanism = RandomizedDeletion | AdaptiveDeletion | RandomMasking | BagDeletion | Reordering

__all__ = [
    "NO_RADIUS",
    "REMOVED",
    "AdaptiveDeletion",
    "AnyMechanism",
    "BagDeletion",
    "EditBudget",
    "Law",
    "LengthMechanism",
    "Profile",
    "RandomMasking",
    "RandomizedDeletion",
    "Reordering",
    "Strata",
    "TextMechanism",
    "dead_zone_length",
    "deletion_frontier",
    "deletion_margin",
    "deletion_radius",
    "deletion_threshold_radius",
    "masking_loss",
    "masking_radius",
    "reordering_loss",
]
