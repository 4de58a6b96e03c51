"""Add a mechanism of your own, and let the contract find out whether its radius holds.

The noise of this one keeps a few words in a row and hides all others: the base classifier reads
a short phrase. A replaced word can spoil only the phrases that hold it.

    python examples/add_a_mechanism.py
"""

# %% The law: every start of the window is as likely; a window at the end goes on at the beginning.
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from small_models import LABELS, NaiveBayes, reviews

from robust_nlp import CallableClassifier, NeymanPearsonMechanism, SmoothedClassifier
from robust_nlp.likelihood import RatioLevels
from robust_nlp.mechanisms import REMOVED, Law, Strata
from robust_nlp.testing import CertificateRefuted, check_mechanism


class WindowLaw(Law):
    def __init__(self, n_units, window):
        self.n_units, self._kept = n_units, min(n_units, window)

    def strata(self):
        return Strata(np.array([self._kept]), np.ones(1), np.array([max(1.0, self.n_units)]))

    def enumerate(self, kept):
        starts = np.arange(max(1, self.n_units))[:, None]
        place = np.arange(self.n_units)
        return np.where((place - starts) % max(1, self.n_units) < kept, place, REMOVED)

    def draw(self, size, rng):
        return rng.choice(self.enumerate(self._kept), size)


# %% The mechanism: of n windows, k replaced words are in at most k times the length of a window.
@dataclass(frozen=True, kw_only=True)
class KeepWindow(NeymanPearsonMechanism):
    window: int = 4
    kind: ClassVar[str] = "keep_window"
    certifies: ClassVar[frozenset] = frozenset({"substitute"})
    description: ClassVar[str] = "Window: a few words in a row are kept, all others are hidden."

    def law(self, units):
        return WindowLaw(len(units), self.window)

    def spoilt(self, edits):
        return edits * self.window

    def pairs(self, edits, *, n_units, attacker, profile):
        share = min(1.0, self.spoilt(edits) / n_units) if n_units else 0.0
        return [RatioLevels.of([share, 1.0 - share, 0.0], [0.0, 1.0 - share, share])]

    def dead_zone(self, n_units):
        return n_units == 0


# %% The contract: laws, draws, and the worst base classifier for every pair of short texts.
claims = check_mechanism(KeepWindow(window=2), alphabet=("a", "b"), longest=6)
print(f"{claims:,} claims about pairs of texts hold against every base classifier.")


class WrongWindow(KeepWindow):  # a replaced word is in one window only: or is it?
    def spoilt(self, edits):
        return edits


try:
    check_mechanism(WrongWindow(window=2), alphabet=("a", "b"), longest=6)
except CertificateRefuted as refuted:
    print("The wrong one is found out:", refuted)

# %% It certifies like any other.
base = CallableClassifier(NaiveBayes(reviews("train")), LABELS)
for certificate in SmoothedClassifier(base, KeepWindow()).certify(reviews("test").texts[:6]):
    print(certificate)
