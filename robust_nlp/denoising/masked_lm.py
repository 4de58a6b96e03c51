"""Repair noisy texts with a masked language model."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_nlp.denoising.choice import Chosen, TokenNoise, choose
from robust_nlp.denoising.gaps import with_slots
from robust_nlp.denoising.heads import load_masked_lm
from robust_nlp.denoising.settings import check_draws
from robust_nlp.denoising.wording import Wording
from robust_nlp.encoding import ID
from robust_nlp.errors import ModelError
from robust_nlp.huggingface import TOLERANCE, position_limit
from robust_nlp.inputs import Ids, read
from robust_nlp.mechanisms.base import IntArray

#: The file beside a checkpoint that says how it repairs texts.
DENOISER_FILE = "denoiser.json"

#: Slots for which tokens are chosen at once.
CHOICES = 512


class MaskedLMDenoiser:
    """Fill masks, and gaps where words were lost, with any `AutoModelForMaskedLM`.

    A masked word becomes one mask token of the model, whatever stood there, and is filled by a
    token that is a whole word. Where words were deleted, masks are inserted by a rule that looks at
    the noisy text alone. Slots beyond what the model can read are left out of the repaired text.
    Answers are the same in every batch: choices that rounding could change are made again on the
    noisy text alone.

    Args:
        model: The model; it is put in evaluation mode while it repairs.
        tokenizer: Its tokenizer.
        gap_masks: Masks to insert in each gap between words, on average, at least 0; see
            `robust_nlp.denoising.gaps`.
        fills: Repaired versions of each noisy text, at least 1; several need a temperature.
        rounds: In how many rounds slots are filled, at least 1: the surest first, the others with
            the former filled in.
        temperature: 0 fills in the most probable words; above, words are drawn with probabilities
            proportional to `p ** (1 / temperature)`, by a hash of seed and noisy text.
        seed: Seed of the draws, at least 0.
        max_length: Tokens that the model reads at most, special tokens included; `None` takes the
            smaller limit of tokenizer and model.
        batch_tokens: Tokens in a batch; changes the speed, never an answer.

    Raises:
        ModelError: If the tokenizer has no mask token or no whole words.
        ValueError: If a setting is outside its range.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        gap_masks: float = 0.0,
        fills: int = 1,
        rounds: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
        max_length: int | None = None,
        batch_tokens: int = 1024,
    ) -> None:
        check_draws(fills, temperature, seed)
        if not 0.0 <= gap_masks < np.inf:
            raise ValueError(f"gap_masks is a number of masks of at least 0; got {gap_masks!r}")
        if rounds < 1:
            raise ValueError(f"rounds must be at least 1; got {rounds}")
        self.model, self.tokenizer = model, tokenizer
        self.gap_masks, self.fills, self.rounds = gap_masks, fills, rounds
        self.temperature, self.seed, self.batch_tokens = temperature, seed, batch_tokens
        limit = position_limit(model, tokenizer)
        self.max_length = limit if max_length is None else min(max_length, limit)
        self._wording = Wording(tokenizer, self.max_length)
        n_tokens = max(len(tokenizer), int(model.config.vocab_size))
        self._noise = TokenNoise(temperature=temperature, seed=seed, n_tokens=n_tokens)
        self._whole = torch.empty((2, 0), dtype=torch.bool)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        gap_masks: float | None = None,
        device: str | torch.device | None = None,
        **settings: Any,
    ) -> MaskedLMDenoiser:
        """Load a denoiser from a folder or the Hub.

        Args:
            path: Folder or Hub id of a masked language model.
            revision: Hub revision.
            gap_masks: See the class; `None` takes what was saved beside the model, else 0.
            device: A torch device; `None` takes a GPU if there is one.
            settings: The other arguments of the class.

        Raises:
            ModelError: If there is nothing to load, or the model has no masked-LM head.
        """
        model, tokenizer = load_masked_lm(path, revision=revision)
        if gap_masks is None:
            gap_masks = saved_gap_masks(path)
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), tokenizer, gap_masks=gap_masks, **settings)

    def save_pretrained(self, folder: str | Path) -> None:
        """Save model, tokenizer and `denoiser.json` as plain files."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        save_policy(folder, gap_masks=self.gap_masks)

    def repair(self, noisy: Sequence[str]) -> list[tuple[str, ...]]:
        """Return `fills` repaired versions of each noisy text; see `Denoiser`."""
        distinct = {text: with_slots(text, self.gap_masks) for text in noisy}
        self._wording.learn(word for words in distinct.values() for word in words)
        drafts = {text: self._drafts(text, words) for text, words in distinct.items()}
        everything = [draft for versions in drafts.values() for draft in versions]
        training = self.model.training
        self.model.eval()
        try:
            # What a model in training caches on the way must stay usable for its next step.
            with torch.no_grad() if training else torch.inference_mode():
                for done in range(1, self.rounds + 1):
                    self._fill(everything, done)
        finally:
            self.model.train(training)
        repaired = {
            text: tuple(draft.text() for draft in versions) for text, versions in drafts.items()
        }
        return [repaired[text] for text in noisy]

    def _drafts(self, noisy: str, words: list[str | None]) -> list[_Draft]:
        layout = self._wording.lay_out(words)
        return [
            _Draft(
                words=list(words),
                body=layout.body.copy(),
                slots=layout.slots,
                members=layout.members,
                places=self._noise.places(noisy, fill, len(layout.slots)),
                open=np.ones(len(layout.slots), np.bool_),
            )
            for fill in range(self.fills)
        ]

    def _fill(self, drafts: Sequence[_Draft], done: int) -> None:
        """Fill what is due by the end of a round, with equal inputs read once."""
        equal: dict[bytes, list[_Draft]] = defaultdict(list)
        for draft in drafts:
            if draft.due(done, self.rounds):
                equal[self._wording.key(draft.body)].append(draft)
        for keys in self._batches(list(equal)):
            scored = [
                (key, draft, scores)
                for key, scores in zip(keys, self._logits(keys), strict=True)
                for draft in equal[key]
            ]
            for group in _groups(scored):
                chosen = self._choose([(draft, scores) for _, draft, scores in group])
                for (key, draft, _), choice in zip(group, chosen, strict=True):
                    due = draft.due(done, self.rounds)
                    order, sure = _surest(choice, due)
                    if not sure:
                        (choice,) = self._choose([(draft, self._logits([key])[0])])
                        order, _ = _surest(choice, due)
                    draft.fill(order[:due], choice.tokens.numpy(), self._wording.words)

    def _batches(self, keys: list[bytes]) -> Iterator[list[bytes]]:
        by_length: dict[int, list[bytes]] = defaultdict(list)
        for key in keys:
            by_length[len(key)].append(key)
        for size, members in sorted(by_length.items()):
            rows = max(1, self.batch_tokens * ID.itemsize // size)
            for start in range(0, len(members), rows):
                yield members[start : start + rows]

    def _logits(self, keys: Sequence[bytes]) -> list[torch.Tensor]:
        """Return the scores at the masks of inputs of equal length; each `(masks, tokens)`."""
        ids, types = read(keys)
        arguments = {"input_ids": self._tensor(ids)}
        if types is not None:
            arguments["token_type_ids"] = self._tensor(types)
        masked = arguments["input_ids"] == self._wording.mask_id
        with _scored(self.model, masked):
            logits = self.model(**arguments).logits
        if logits.ndim == 3:
            logits = logits[masked]
        return list(logits.split(masked.sum(dim=1).tolist()))

    def _choose(self, scored: Sequence[tuple[_Draft, torch.Tensor]]) -> list[Chosen]:
        """Choose tokens for the open slots of each draft, given the scores there."""
        logits = torch.cat([scores for _, scores in scored])
        places = np.concatenate([draft.places[draft.open] for draft, _ in scored])
        later = np.concatenate([draft.slots[draft.open] > 0 for draft, _ in scored])
        if self._whole.shape[1] != logits.shape[1]:
            known = torch.from_numpy(self._wording.whole[:, : logits.shape[1]])
            missing = logits.shape[1] - known.shape[1]
            self._whole = torch.nn.functional.pad(known, (0, missing)).to(logits.device)
        chosen = choose(
            logits,
            self._whole[torch.from_numpy(later.astype(np.int64)).to(logits.device)],
            self._noise,
            torch.from_numpy(places),
            tolerance=TOLERANCE.get(self.model.dtype, 2e-2),
            ranked=self.rounds > 1,
        )
        return chosen.split([len(scores) for _, scores in scored])

    def _tensor(self, ids: Ids) -> torch.Tensor:
        return torch.from_numpy(ids.astype(np.int64)).to(self.model.device)


@contextmanager
def _scored(model: Any, where: torch.Tensor) -> Iterator[None]:
    """Let the last layer, a product with all the vocabulary, see some tokens alone.

    The answer is then of shape `(tokens chosen, vocabulary)`. A model that does not call that layer
    with the hidden states of all tokens answers as ever.

    Args:
        model: The masked language model.
        where: The tokens; shape `(rows, tokens)`.
    """

    def choose_tokens(_: Any, args: tuple[Any, ...]) -> Any:
        whole = bool(args) and args[0].shape[:-1] == where.shape
        return (args[0][where], *args[1:]) if whole else None

    head = model.get_output_embeddings()
    hook = None if head is None else head.register_forward_pre_hook(choose_tokens)
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()


@dataclass
class _Draft:
    """One version of a noisy text, on its way to being repaired."""

    words: list[str | None]
    body: Ids
    slots: IntArray
    members: IntArray
    places: IntArray
    open: np.ndarray[tuple[int], np.dtype[np.bool_]]

    def due(self, done: int, rounds: int) -> int:
        """How many slots are still to be filled by the end of a round."""
        n = len(self.slots)
        return -(-n * done // rounds) - int(n - self.open.sum())

    def fill(self, which: IntArray, tokens: IntArray, words: Sequence[str]) -> None:
        """Fill some of the open slots."""
        slots = np.flatnonzero(self.open)[which]
        self.body[self.slots[slots]] = tokens[which]
        for slot, token in zip(slots, tokens[which], strict=True):
            self.words[int(self.members[slot])] = words[int(token)]
        self.open[slots] = False

    def text(self) -> str:
        return " ".join(word for word in self.words if word is not None)


_Scored = tuple[bytes, _Draft, torch.Tensor]


def _groups(scored: Sequence[_Scored]) -> Iterator[list[_Scored]]:
    """Cut a list where choices would take too much memory: vocabularies are large."""
    group: list[_Scored] = []
    rows = 0
    for entry in scored:
        if group and rows + len(entry[2]) > CHOICES:
            yield group
            group, rows = [], 0
        group.append(entry)
        rows += len(entry[2])
    yield group


def _surest(chosen: Chosen, due: int) -> tuple[IntArray, bool]:
    """Return rows by falling confidence, and whether rounding could change which are filled."""
    confidence, order = chosen.confidence.sort(descending=True, stable=True)
    sure = bool((chosen.slack > 0.0).all())
    if sure and due < len(order):
        sure = bool(confidence[due - 1] - confidence[due] > chosen.tolerance.max())
    return order.numpy(), sure


def save_policy(folder: str | Path, **policy: Any) -> None:
    """Write beside a masked language model how it repairs texts."""
    from robust_nlp import __version__

    content = {"robust_nlp": __version__, "kind": "masked_lm", **policy}
    path = Path(folder) / DENOISER_FILE
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def saved_gap_masks(folder: str | Path) -> float:
    """Return how many masks a saved denoiser inserts in each gap; 0 if it does not say.

    Raises:
        ModelError: If the file cannot be read.
    """
    path = Path(folder) / DENOISER_FILE
    if not path.is_file():
        return 0.0
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["gap_masks"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} does not say how to repair texts: {error!r}") from error
