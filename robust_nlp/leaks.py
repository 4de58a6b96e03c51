"""A check that a base classifier sees of a text nothing but the noisy text.

Every certificate assumes it, whatever the mechanism, and nothing in a formula can tell that it is
wrong: an attention mask over the clean length, a position counted in the clean text, a cache keyed
by the clean text, or masks that spare important words, and the guarantee is gone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from robust_nlp.base_classifier import BaseClassifier, Side, Text, split_pair
from robust_nlp.mechanisms.base import IntArray, Law, TextMechanism
from robust_nlp.mechanisms.gaussian import GaussianEmbedding
from robust_nlp.testing import ContractBroken
from robust_nlp.units import join_units, keyed_rng, split_units

#: What hidden units are replaced by: other lengths, capitals, scripts, numbers of tokens.
STRANGERS = ("A", "ZEBRA", "antidisestablishmentarianism", "x-y-z", "日本語", "7", "don't", "İ")


class LeakFound(ContractBroken):
    """A base classifier told two texts apart whose noisy versions are the same.

    Attributes:
        clean: The clean text.
        attacked: Another text with the same noisy version.
        what: Where they differ: "key", "answer", or the argument of the model.
    """

    def __init__(self, clean: Text, attacked: Text, noisy: Sequence[str], what: str) -> None:
        self.clean, self.attacked, self.what = clean, attacked, what
        super().__init__(
            f"the {what} is not the same for {clean!r} and {attacked!r}, although both have the "
            f"noisy version {list(noisy)!r}: the base classifier sees more than the noisy text, "
            "and no certificate holds"
        )


def check_leaks(
    base: BaseClassifier,
    mechanism: TextMechanism,
    texts: Sequence[Text],
    *,
    model: Any = None,
    draws: int = 16,
    protected: Side = "second",
    seed: int = 0,
) -> int:
    """Compare what a base classifier is fed for texts that share a noisy version.

    Noisy versions of each text are drawn. What they hide is then replaced by strange words, and,
    where the noise removes units, left out or joined by more hidden words: other texts with the
    same noisy version. For both, the key that the base classifier makes of it, everything that is
    passed to the model, and the answer must be the same.

    Args:
        base: The base classifier, with whatever is wrapped around it.
        mechanism: A mechanism that hides units: by deletion, masking, replacement or shuffling.
        texts: Texts to start from, or pairs.
        model: The `torch.nn.Module` whose inputs are compared; `None` takes `base.model` if there
            is one, and else compares keys and answers only.
        draws: Noisy versions per text.
        protected: Which text of a pair is never noised.
        seed: Seed of the noise and of the strange words.

    Returns:
        How many pairs of texts were compared.

    Raises:
        LeakFound: If something differs.
        ValueError: If no noisy version hid anything, so that nothing could be compared, or the
            noise is on embeddings.
    """
    if isinstance(mechanism, GaussianEmbedding):
        raise ValueError(
            "noise on embeddings hides no words from the keys; what the model reads of them is "
            "one and the same id, see robust_nlp.embedding_noise"
        )
    model = getattr(base, "model", None) if model is None else model
    compared = 0
    for number, text in enumerate(texts):
        rng = keyed_rng(seed, "leaks", number)
        body, _ = split_pair(text, protected)
        units = split_units(body, mechanism.unit)
        opened = base.open(text, mechanism)
        for row in opened.law.draw(draws, rng):
            noisy = _noisy(units, opened.law, row)
            for other in _others(units, row, mechanism, rng):
                attacked = _with_body(text, join_units(other, mechanism.unit), protected)
                # One text after the other, as a classifier with a memory would meet them.
                first = _fed(base, model, base.open(text, mechanism).encode(row[None])[0])
                opened_other = base.open(attacked, mechanism)
                same = _same_row(noisy, other, opened_other.law)
                if same is None:
                    continue
                second = _fed(base, model, opened_other.encode(same[None])[0])
                what = _difference(first, second)
                if what is not None:
                    raise LeakFound(text, attacked, noisy, what)
                compared += 1
    if not compared:
        raise ValueError(
            f"{mechanism.kind} hid nothing of these {len(texts)} texts; give longer texts, or more "
            "noise"
        )
    return compared


def _noisy(units: Sequence[str], law: Law, row: IntArray) -> list[str]:
    known = [*units, *law.extra_units]
    return [known[i] for i in row.tolist() if i >= 0]


def _others(
    units: list[str], row: IntArray, mechanism: TextMechanism, rng: np.random.Generator
) -> Iterator[list[str]]:
    """Change what a row hides; candidates, some of which may not share the noisy version."""
    shown = set(row.tolist())
    hidden = [i for i in range(len(units)) if i not in shown]
    strangers: tuple[str, ...] = STRANGERS
    if mechanism.unit == "character":
        strangers = tuple(word[0] for word in STRANGERS)
    swaps = getattr(mechanism, "allowed", None)
    replaced = list(units)
    for i in hidden:
        choices = strangers if swaps is None else (swaps.of(units[i]) or (units[i],))
        replaced[i] = str(rng.choice(choices))
    if replaced != units:
        yield replaced
    if not mechanism.keeps_length:
        if hidden:
            yield [unit for i, unit in enumerate(units) if i not in hidden]
        yield [*units, *rng.choice(strangers, 3).tolist()]
        yield [str(rng.choice(strangers)), *units]
    kept = row[(row >= 0) & (row < len(units))]
    if (np.diff(kept) < 0).any():  # the noise shuffles
        yield [units[i] for i in rng.permutation(len(units))]


def _same_row(noisy: Sequence[str], units: Sequence[str], law: Law) -> IntArray | None:
    """Find a row for the other text that shows the same noisy text, if there is one.

    A unit is taken from its own place where the law keeps places, else from the first place after
    the one before, else from any.
    """
    known = [*units, *law.extra_units]
    width = law.draw(1, np.random.default_rng(0)).shape[1]
    places: list[int] = []
    used: set[int] = set()
    start = 0
    for unit in noisy:
        free = [i for i in range(law.n_units) if units[i] == unit and i not in used]
        candidates = [i for i in free if i >= start] or free
        extra = [law.n_units + j for j, each in enumerate(law.extra_units) if each == unit]
        at = len(places)
        if width == len(noisy) and at < law.n_units and known[at] == unit and at not in used:
            found = at
        elif extra:
            found = extra[0]
        elif candidates:
            found = candidates[0]
        else:
            return None
        places.append(found)
        used.add(found)
        if found < law.n_units:
            start = found + 1
    if len(places) > width:
        return None
    return np.array([*places, *[-1] * (width - len(places))], np.int64)


def _with_body(text: Text, body: str, protected: Side) -> Text:
    if isinstance(text, str):
        return body
    return (text[0], body) if protected == "first" else (body, text[1])


@dataclasses.dataclass
class _Fed:
    """What a base classifier made of one noisy text."""

    key: Any
    calls: list[Any]
    answer: int


def _fed(base: BaseClassifier, model: Any, key: Any) -> _Fed:
    with _recorded(model) as calls:
        answer = int(base.classify([key])[0])
    return _Fed(key=key, calls=calls, answer=answer)


@contextmanager
def _recorded(model: Any) -> Iterator[list[Any]]:
    """Record the arguments of every call of a model."""
    calls: list[Any] = []
    if model is None:
        yield calls
        return

    def record(_module: Any, args: Any, kwargs: Any) -> None:
        calls.append({**{f"argument {i}": a for i, a in enumerate(args)}, **kwargs})

    handle = model.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def _difference(first: _Fed, second: _Fed) -> str | None:
    """Name what differs, the most telling first; `None` if nothing does."""
    if len(first.calls) != len(second.calls):
        return "number of calls of the model"
    for one, other in zip(first.calls, second.calls, strict=True):
        for name in [*one, *(name for name in other if name not in one)]:
            if not _equal(one.get(name), other.get(name)):
                return f"{name} of the model"
    if first.key != second.key:
        return "key"
    return "answer" if first.answer != second.answer else None


def _equal(one: Any, other: Any) -> bool:
    """Compare arguments: tensors, and whatever holds them."""
    if type(one) is not type(other):
        return False
    if hasattr(one, "shape") and hasattr(one, "dtype"):
        same = one.shape == other.shape and one.dtype == other.dtype
        return bool(same and (one == other).all())
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
