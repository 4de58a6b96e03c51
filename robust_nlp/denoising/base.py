"""What a denoiser is: a function from noisy texts to repaired ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

#: Stands in a noisy text for a masked unit, whatever the mechanism writes there: a private code
#: point, which no tokenizer knows. A text that holds it by itself is read as if it were masked.
MASK = "\ue000"


class Denoiser(Protocol):
    """Repair noisy texts, each by itself.

    Each answer is a function of its noisy text alone: not of the texts beside it, of their order,
    or of earlier calls. A denoiser that draws at random takes its randomness from a hash of its own
    seed and the noisy text (`robust_nlp.units.keyed_rng`). `check_denoiser` checks this.
    """

    def repair(self, noisy: Sequence[str]) -> Sequence[Sequence[str]]:
        """Return one or more repaired versions of each noisy text.

        The scores of the base classifier on the versions of a noisy text are averaged inside its
        one vote.

        Args:
            noisy: Noisy texts, in which `MASK` stands for each masked unit.
        """
        ...


class NoisyInput(NamedTuple):
    """All that a denoised classifier knows of a text: a noisy version, and its protected partner.

    Attributes:
        text: The noisy text, in which `MASK` stands for each masked unit.
        partner: The protected text of a pair.
    """

    text: str
    partner: str | None
