"""Noise laws and their certificates, one a file."""

from robust_nlp.mechanisms.adaptive import AdaptiveDeletion
from robust_nlp.mechanisms.bag import BagDeletion
from robust_nlp.mechanisms.base import (
    NO_RADIUS,
    REMOVED,
    EditBudget,
    Law,
    LengthMechanism,
    Profile,
    Strata,
    TextMechanism,
)
from robust_nlp.mechanisms.combined import CombinedNoise
from robust_nlp.mechanisms.deletion import (
    RandomizedDeletion,
    dead_zone_length,
    deletion_frontier,
    deletion_margin,
    deletion_radius,
    deletion_threshold_radius,
)
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.mechanisms.kernels import ExponentialSubstitution
from robust_nlp.mechanisms.masking import RandomMasking, masking_loss, masking_radius
from robust_nlp.mechanisms.neyman_pearson import NeymanPearsonMechanism
from robust_nlp.mechanisms.reordering import Reordering, reordering_loss
from robust_nlp.mechanisms.synonyms import SynonymSmoothing

#: The mechanisms that a recipe may name by `kind`.
AnyMechanism = (
    RandomizedDeletion
    | AdaptiveDeletion
    | RandomMasking
    | BagDeletion
    | Reordering
    | SynonymSmoothing
    | ExponentialSubstitution
    | CombinedNoise
    | GaussianEmbedding
)

__all__ = [
    "NO_RADIUS",
    "REMOVED",
    "AdaptiveDeletion",
    "AnyMechanism",
    "BagDeletion",
    "CombinedNoise",
    "EditBudget",
    "ExponentialSubstitution",
    "GaussianEmbedding",
    "Law",
    "LengthMechanism",
    "NeymanPearsonMechanism",
    "Profile",
    "RandomMasking",
    "RandomizedDeletion",
    "Reordering",
    "Strata",
    "SynonymSmoothing",
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
