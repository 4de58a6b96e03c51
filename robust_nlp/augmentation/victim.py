"""A classifier as TextAttack asks it: texts in, probabilities and gradients out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch

from robust_nlp.augmentation.importance import Scores
from robust_nlp.base_classifier import Text
from robust_nlp.errors import ModelError
from robust_nlp.huggingface import HuggingFaceClassifier
from robust_nlp.mechanisms.base import FloatArray
from robust_nlp.training.collators import NoisyCollator


class Victim:
    """What TextAttack calls a model wrapper.

    Texts are tokenized and truncated as in training, and padded to the longest of their batch. The
    model is in evaluation mode, without dropout, while it answers.

    Answers are probabilities in double precision: in single precision, the probability of a sure
    class is flat, and attacks that climb it get lost.

    Args:
        classifier: A `HuggingFaceClassifier`, or a function that takes texts or pairs and returns
            one row of scores each; only the first gives gradients.
        scores: What the function returns: "logits" or "probabilities". A `HuggingFaceClassifier`
            gives logits.
    """

    def __init__(
        self,
        classifier: HuggingFaceClassifier | Scores,
        *,
        scores: Literal["logits", "probabilities"] = "logits",
    ) -> None:
        self._scores = scores
        self._classifier = classifier
        self._collator: NoisyCollator | None = None
        #: What TextAttack looks at to see whether it knows the kind of model.
        self.model: Any = classifier
        if isinstance(classifier, HuggingFaceClassifier):
            self._scores = "logits"
            self.model = classifier.model
            self._collator = NoisyCollator(
                classifier.tokenizer,
                None,
                max_length=classifier.max_length,
                prefix=classifier.prefix,
                protected=classifier.protected,
            )

    @property
    def gives_gradients(self) -> bool:
        """Whether the victim has gradients."""
        return self._collator is not None

    def __call__(self, texts: Sequence[Text]) -> torch.Tensor:
        """Return the probabilities of the classes; shape `(texts, classes)`.

        Raises:
            ModelError: If scores have the wrong shape or are no probabilities where they should be.
        """
        scores = torch.from_numpy(self.scores(list(texts)))
        if self._scores == "logits":
            return scores.softmax(dim=-1)
        totals = scores.sum(dim=-1, keepdim=True)
        if bool((scores < 0).any()) or bool(((totals - 1.0).abs() > 1e-3).any()):
            raise ModelError(
                f"expected probabilities that sum to one; got rows such as {scores[0].tolist()}. "
                'Say scores="logits" if the classifier returns logits'
            )
        return scores / totals

    def scores(self, texts: list[Any]) -> FloatArray:
        """Return what the classifier itself returns; shape `(texts, classes)`."""
        if self._collator is None:
            found = np.asarray(self._classifier(texts), dtype=np.float64)  # type: ignore[operator]
            if found.ndim != 2 or len(found) != len(texts):
                raise ModelError(
                    f"the classifier must return one row of scores for each of {len(texts)} texts; "
                    f"got shape {found.shape}"
                )
            return found
        with evaluation(self.model), torch.no_grad():
            logits = self.model(**self._batch(texts)).logits
        return np.asarray(logits.double().cpu().numpy())

    def get_grad(self, text: Text) -> dict[str, Any]:
        """Return the gradient of the loss of the predicted class with respect to the embeddings.

        Returns:
            `ids` of the tokens, shape `(1, tokens)`, and `gradient`, shape `(tokens, dimensions)`.

        Departs: TextAttack's own wrapper leaves dropout on, and gradients on all parameters.
        """
        batch = self._batch([text])
        vectors: list[torch.Tensor] = []

        def keep(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
            vectors.append(output.detach().requires_grad_())
            return vectors[-1]

        handle = self.model.get_input_embeddings().register_forward_hook(keep)
        try:
            with evaluation(self.model), torch.enable_grad():
                logits = self.model(**batch).logits.float()
                loss = torch.nn.functional.cross_entropy(logits, logits.argmax(dim=-1))
                (gradient,) = torch.autograd.grad(loss, vectors[0])
        finally:
            handle.remove()
        return {"ids": batch["input_ids"], "gradient": gradient[0].float().cpu().numpy()}

    def tokenize(self, texts: Sequence[Text], strip_prefix: bool = False) -> list[list[str]]:
        """Return the tokens that the model reads of each text, special tokens included.

        Args:
            texts: The texts.
            strip_prefix: Whether to leave out the marks by which tokenizers say where words begin.
        """
        tokenizer = self._classifier.tokenizer  # type: ignore[union-attr]
        found = []
        for text in texts:
            ids = self._batch([text])["input_ids"][0].tolist()
            tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]
            if strip_prefix:
                tokens = [token.removeprefix("##").lstrip("Ġ▁") or token for token in tokens]
            found.append(tokens)
        return found

    def _batch(self, texts: Sequence[Text]) -> dict[str, torch.Tensor]:
        if self._collator is None:
            raise ModelError("gradients and tokens need a HuggingFaceClassifier, not a function")
        rows = []
        for text in texts:
            first, second = (text, None) if isinstance(text, str) else text
            rows.append({"text": first, "pair": second, "label": 0, "example_id": 0})
        batch = self._collator(rows)
        del batch["labels"]
        return {name: tensor.to(self.model.device) for name, tensor in batch.items()}


@contextmanager
def evaluation(model: Any) -> Iterator[None]:
    """Put a model in evaluation mode, and back."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def model_key(classifier: Any) -> str:
    """Return a key of the weights of a model and of what stands around it.

    Raises:
        ModelError: If the classifier is a function, whose weights nobody knows.
    """
    if not isinstance(classifier, HuggingFaceClassifier):
        raise ModelError(
            "results for a function of texts can only be kept on disk if it has a name of its own: "
            "give model=..., another one whenever its answers change"
        )
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((classifier.max_length, classifier.prefix, classifier.protected)).encode())
    for name, tensor in sorted(classifier.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
