"""How much each word of a text says for its label, to a classifier that can be asked for scores."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from robust_nlp.augmentation.importance import Scores, word_importance
from robust_nlp.augmentation.victim import evaluation
from robust_nlp.base_classifier import BaseClassifier, Side, Text, split_pair
from robust_nlp.denoising.reading import protected_side, reader
from robust_nlp.encoding import ID, Template, UnitEncoder
from robust_nlp.errors import ModelError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.inputs import read
from robust_nlp.mechanisms.base import FloatArray


def base_scores(base: BaseClassifier) -> Scores:
    """Return the scores of a base classifier as a function of texts; no noise, no denoiser.

    Args:
        base: A `HuggingFaceClassifier`, whose scores are logits, or a `CallableClassifier`; of any
            other classifier, answers count as scores 0 and 1.
    """
    read_texts = reader(base, protected_side(base))
    return lambda texts: read_texts.scores(read_texts.keys(texts))


def leave_one_out(
    scores: Scores,
    texts: Sequence[Text],
    labels: Sequence[int],
    *,
    protected: Side = "second",
    max_pieces: int = 128,
) -> list[FloatArray]:
    """Measure by how much the margin of the label falls when a word is left out.

    The importance of a text does not depend on the texts beside it: each is measured by itself.

    Args:
        scores: The classifier: texts to one row of scores each. For a smoothed classifier, shares
            of votes may serve, at the cost of that many votes for each word.
        texts: The texts, or pairs of texts.
        labels: One class index a text.
        protected: Which text of a pair loses no words.
        max_pieces: Runs of words at most that a long text is cut into; see `word_importance`.

    Returns:
        For each text the importance of each word of `text.split()`; shape `(words,)`.

    Raises:
        ModelError: If scores have the wrong shape.
    """
    return [
        _rounded(
            word_importance(scores, [text], [label], max_pieces=max_pieces, protected=protected)[0]
        )
        for text, label in zip(texts, labels, strict=True)
    ]


def gradient_x_embedding(
    classifier: HuggingFaceClassifier, texts: Sequence[Text], labels: Sequence[int]
) -> list[FloatArray]:
    """Estimate by how much the margin of the label falls when a word's embeddings become zero.

    For each token the inner product of its embedding with the gradient of the margin, summed over
    the tokens of a word: exact for a margin that is linear in the embeddings. It costs one forward
    and one backward pass a text, however long it is. Words beyond the classifier's maximum length
    have importance 0.

    Args:
        classifier: The classifier; its tokenizer must tell where tokens begin and end.
        texts: The texts, or pairs of texts, whose words are joined by single spaces.
        labels: One class index a text.

    Returns:
        For each text the importance of each word of `text.split()`; shape `(words,)`.

    Raises:
        ModelError: If the tokenizer is a slow one, which does not know the places of its tokens.

    Source: Shrikumar et al., Not Just a Black Box (2016), gradient times input.
    """
    if not classifier.tokenizer.is_fast:
        raise ModelError(
            "gradient_x_embedding needs a fast tokenizer, which knows where its tokens stand in "
            "the text; use importance: leave_one_out with this one"
        )
    return [
        _one_gradient(classifier, text, label) for text, label in zip(texts, labels, strict=True)
    ]


def _one_gradient(classifier: HuggingFaceClassifier, text: Text, label: int) -> FloatArray:
    body, partner = split_pair(text, classifier.protected)
    words = body.split()
    owners, ids = _token_owners(classifier, words)
    builder, tokenizer = classifier.builder, classifier.tokenizer
    (key,) = builder.build([np.array(ids, ID).tobytes()], partner)
    template = Template.read(tokenizer, pair=partner is not None)
    shown, types = read([key])
    size = len(shown[0])
    other = 0
    if partner is not None:  # the protected text has half of the room at most
        other = len(tokenizer(partner, add_special_tokens=False, verbose=False)["input_ids"])
        other = min(other, (classifier.max_length - template.size) // 2)
    kept = min(len(ids), size - template.size - other)
    after = len(template.after) // ID.itemsize
    if partner is not None and classifier.protected == "first":
        start = size - after - kept
    else:
        start = len(template.before) // ID.itemsize
    owners = owners[len(owners) - kept :] if tokenizer.truncation_side == "left" else owners[:kept]
    products = _products(classifier, shown, types, label)[start : start + kept]
    importance = np.zeros(len(words))
    for owner, product in zip(owners, products, strict=True):
        if owner >= 0:
            importance[owner] += product
    return _rounded(importance)


def _token_owners(
    classifier: HuggingFaceClassifier, words: list[str]
) -> tuple[list[int], list[int]]:
    """Return for each token the word that it belongs to, -1 in the prefix, and its id."""
    string = UnitEncoder(classifier.tokenizer, "character", classifier.prefix).string(
        [" ".join(words)]
    )
    encoded = classifier.tokenizer(
        string, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    ends = np.cumsum([len(word) + 1 for word in words]) - 1 if words else np.zeros(0)
    shift = len(string) - (int(ends[-1]) if words else 0)
    owners = []
    for start, end in encoded["offset_mapping"]:
        # A token may begin with the space before its word, so that its last character counts.
        last = max(start, end - 1) - shift
        owners.append(min(bisect_right(ends.tolist(), last), len(words) - 1) if last >= 0 else -1)
    return owners, list(encoded["input_ids"])


def _products(classifier: HuggingFaceClassifier, ids: Any, types: Any, label: int) -> FloatArray:
    """Return embedding times gradient of the label's margin; shape `(tokens,)`."""
    model = classifier.model
    kept: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
        kept.append(output.detach().requires_grad_())
        return kept[-1]

    arguments = {"input_ids": torch.from_numpy(ids.astype(np.int64)).to(model.device)}
    if types is not None:
        arguments["token_type_ids"] = torch.from_numpy(types.astype(np.int64)).to(model.device)
    handle = model.get_input_embeddings().register_forward_hook(keep)
    try:
        with evaluation(model), torch.enable_grad():
            logits = model(**arguments).logits[0].float()
            others = torch.cat([logits[:label], logits[label + 1 :]])
            (gradient,) = torch.autograd.grad(logits[label] - others.max(), kept[0])
    finally:
        handle.remove()
    return np.asarray((gradient * kept[0].detach())[0].sum(dim=-1).double().cpu().numpy())


def _rounded(importance: FloatArray) -> FloatArray:
    """Drop the digits that differ from machine to machine, so that ties are ties everywhere."""
    scale = np.abs(importance).max(initial=0.0)
    return importance if scale == 0.0 else np.round(importance / scale, 4) * scale
