"""From votes to certificates."""

from robust_nlp.certification.certificates import (
    Bounds,
    Certificate,
    bounds_from_votes,
    certificate_from_votes,
    certified_accuracy,
)
from robust_nlp.certification.confidence import (
    confident_class,
    lower_confidence_bound,
    upper_confidence_bound,
)
from robust_nlp.certification.plan import ExactPlan, FixedPlan, SamplingPlan, SequentialPlan
from robust_nlp.certification.sequential import sequential_lower_bound
from robust_nlp.certification.votes import VoteCounts

__all__ = [
    "Bounds",
    "Certificate",
    "ExactPlan",
    "FixedPlan",
    "SamplingPlan",
    "SequentialPlan",
    "VoteCounts",
    "bounds_from_votes",
    "certificate_from_votes",
    "certified_accuracy",
    "confident_class",
    "lower_confidence_bound",
    "sequential_lower_bound",
    "upper_confidence_bound",
]
