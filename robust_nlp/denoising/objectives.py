"""What a denoiser is trained for."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from robust_nlp.denoising.wording import NO_TARGET


def reconstruction(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of the clean words of each text; 0 for a text without any.

    Args:
        logits: Scores; shape `(texts, tokens, vocabulary)`.
        targets: Tokens to find, `NO_TARGET` elsewhere; shape `(texts, tokens)`.

    Returns:
        Shape `(texts,)`.
    """
    asked = targets != NO_TARGET
    rows, _ = asked.nonzero(as_tuple=True)
    each = F.cross_entropy(logits[asked].float(), targets[asked], reduction="none")
    total = each.new_zeros(len(targets)).index_add(0, rows, each)
    return total / asked.sum(dim=1).clamp(min=1)


def repaired_scores(
    classifier: Any,
    ids: torch.Tensor,
    attention_mask: torch.Tensor,
    logits: torch.Tensor,
    slots: torch.Tensor,
    allowed: torch.Tensor,
) -> torch.Tensor:
    """Return the classifier's scores of the texts with their slots filled in.

    The classifier reads, in each slot, the embedding of the most probable allowed token, as it will
    when it votes. Gradients take the mean of the embeddings, weighted by the probabilities, in its
    place (straight-through), so that denoiser and classifier must share their tokens.

    Args:
        classifier: A sequence classifier, whose parameters need no gradients.
        ids: What the denoiser read; shape `(texts, tokens)`.
        attention_mask: Which tokens are no padding; shape `(texts, tokens)`.
        logits: Scores of the denoiser; shape `(texts, tokens, vocabulary)`.
        slots: Where words are filled in; shape `(texts, tokens)`.
        allowed: What may be filled in, for each slot; shape `(slots, vocabulary)`.

    Source: Salman et al., Denoised Smoothing (NeurIPS 2020), stability and classification
        objectives.
    Departs: Text is not continuous: straight-through embeddings (Bengio et al., 2013), as
        mixtures of embeddings are nothing that the classifier will ever read.
    """
    table = classifier.get_input_embeddings().weight
    scores = logits[slots].float().masked_fill(~allowed, -torch.inf)[:, : len(table)]
    mixture = scores.softmax(dim=1) @ table
    filled = table[scores.argmax(dim=1)] + mixture - mixture.detach()
    embeddings = classifier.get_input_embeddings()(ids)
    embeddings = embeddings.masked_scatter(slots[..., None], filled.to(embeddings.dtype))
    answer: torch.Tensor = classifier(
        inputs_embeds=embeddings, attention_mask=attention_mask
    ).logits
    return answer.float()
