"""Repair noisy texts with a model that writes the repaired text anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from robust_nlp.denoising.base import MASK
from robust_nlp.denoising.choice import TokenNoise
from robust_nlp.denoising.settings import PROMPT, check_draws, check_prompt
from robust_nlp.embedded import resolve_base
from robust_nlp.errors import ModelError
from robust_nlp.huggingface import TOLERANCE, position_limit
from robust_nlp.loading import load_tokenizer


class _Asked(NamedTuple):
    """One repaired version that is asked for: its noisy text, its number, and the prompt."""

    noisy: str
    fill: int
    prompt: tuple[int, ...]


class _Generative:
    """Repair a noisy text by generating; see `Seq2SeqDenoiser` and `CausalLMDenoiser`.

    A noisy text that does not fit into the prompt loses words at its end. Answers are the same in
    every batch: texts with a choice that rounding could change are written again alone.

    Args:
        model: The model; it is put in evaluation mode while it repairs.
        tokenizer: Its tokenizer.
        prompt: What the model reads, with {text} for the noisy text.
        mask: How masked units are written in the noisy text.
        max_new_tokens: Tokens of a repaired text, at most.
        fills: Repaired versions of each noisy text, at least 1; several need a temperature.
        temperature: 0 writes the most probable tokens; above, tokens are drawn with probabilities
            proportional to `p ** (1 / temperature)`, by a hash of seed and noisy text.
        seed: Seed of the draws, at least 0.
        batch_tokens: Tokens in a batch; changes the speed, never an answer.

    Raises:
        ModelError: If the prompt leaves no room.
        ValueError: If a setting is outside its range.
    """

    #: The class of `transformers` that loads the model.
    loader: ClassVar[str]
    #: Whether the model writes on after what it reads.
    continues: ClassVar[bool]

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        prompt: str,
        mask: str,
        max_new_tokens: int = 64,
        fills: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
        batch_tokens: int = 4096,
    ) -> None:
        check_draws(fills, temperature, seed)
        check_prompt(prompt)
        self.model, self.tokenizer = model, tokenizer
        self.prompt, self.mask, self.fills = prompt, mask, fills
        self.max_new_tokens, self.batch_tokens = max_new_tokens, batch_tokens
        self._noise = TokenNoise(
            temperature=temperature,
            seed=seed,
            n_tokens=max(len(tokenizer), int(model.config.vocab_size)),
        )
        self._ends = sorted(_ends(model, tokenizer, newline=self.continues))
        limit = position_limit(model, tokenizer)
        self._room = limit - (max_new_tokens if self.continues else 0)
        if len(self._read([""])[0]) > self._room:
            raise ModelError(
                f"the prompt of {len(self._read([''])[0])} tokens and max_new_tokens="
                f"{max_new_tokens} leave no room for text within {limit} tokens"
            )

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        **settings: Any,
    ) -> Any:
        """Load a denoiser from a folder or the Hub, in single precision.

        Args:
            path: Folder or Hub id of the model.
            revision: Hub revision.
            device: A torch device; `None` takes a GPU if there is one.
            settings: The arguments of the class.

        Raises:
            ModelError: If there is nothing to load, or weights are missing.
        """
        import transformers

        source = resolve_base(str(path))
        try:
            tokenizer = load_tokenizer(source, revision)
            model, loading = getattr(transformers, cls.loader).from_pretrained(
                source, revision=revision, dtype=torch.float32, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot load a denoiser from {source!r}: {error}") from error
        missing = sorted(loading["missing_keys"])
        if missing:
            raise ModelError(
                f"{source!r} lacks weights that {cls.__name__} needs: {', '.join(missing[:4])}"
            )
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), tokenizer, **settings)

    def repair(self, noisy: Sequence[str]) -> list[tuple[str, ...]]:
        """Return `fills` repaired versions of each noisy text; see `Denoiser`."""
        distinct = list(dict.fromkeys(noisy))
        by_length: dict[int, list[_Asked]] = defaultdict(list)
        for text, prompt in zip(distinct, self._read(distinct), strict=True):
            for fill in range(self.fills):
                by_length[len(prompt)].append(_Asked(text, fill, tuple(prompt)))
        written: dict[tuple[str, int], str] = {}
        training = self.model.training
        self.model.eval()
        try:
            for size, asked in sorted(by_length.items()):
                rows = max(1, self.batch_tokens // (size + self.max_new_tokens))
                for start in range(0, len(asked), rows):
                    self._write(asked[start : start + rows], written)
        finally:
            self.model.train(training)
        return [tuple(written[text, fill] for fill in range(self.fills)) for text in noisy]

    def _write(self, asked: list[_Asked], written: dict[tuple[str, int], str]) -> None:
        texts, sure = self._generate(asked)
        for one, text, certain in zip(asked, texts, sure, strict=True):
            written[one.noisy, one.fill] = text if certain else self._generate([one])[0][0]

    def _generate(self, asked: list[_Asked]) -> tuple[list[str], list[bool]]:
        """Return texts, and whether rounding could not have changed them."""
        ids = torch.tensor([one.prompt for one in asked], device=self.model.device)
        places = [self._noise.places(one.noisy, one.fill, self.max_new_tokens) for one in asked]
        chooser = _Chooser(
            self._noise,
            torch.from_numpy(np.stack(places)),
            torch.tensor(self._ends, device=self.model.device),
            TOLERANCE.get(self.model.dtype, 2e-2),
        )
        with torch.no_grad():
            output = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=self._settings(),
                logits_processor=LogitsProcessorList([chooser]),
            )
        new = output[:, ids.shape[1] :] if self.continues else output
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [text.strip().split("\n")[0].strip() for text in texts], chooser.sure.tolist()

    def _settings(self) -> GenerationConfig:
        own = self.model.generation_config
        return GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            num_beams=1,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self._ends or None,
            pad_token_id=self._ends[0] if self._ends else 0,
            bos_token_id=own.bos_token_id,
            decoder_start_token_id=own.decoder_start_token_id,
        )

    def _read(self, noisy: Sequence[str]) -> list[list[int]]:
        """Return prompts as ids, with words left out at the end of texts that are too long."""
        texts = [text.replace(MASK, self.mask) for text in noisy]
        prompts: list[list[int]] = self.tokenizer(
            [self.prompt.replace("{text}", text) for text in texts], verbose=False
        )["input_ids"]
        for i, text in enumerate(texts):
            words = text.split()
            while len(prompts[i]) > self._room and words:
                words = words[: max(0, len(words) - (len(prompts[i]) - self._room))]
                prompt = self.prompt.replace("{text}", " ".join(words))
                prompts[i] = self.tokenizer(prompt, verbose=False)["input_ids"]
        return prompts


class Seq2SeqDenoiser(_Generative):
    """Repair noisy texts with any `AutoModelForSeq2SeqLM` that writes whole texts, such as BART."""

    loader = "AutoModelForSeq2SeqLM"
    continues = False

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        prompt: str = "{text}",
        mask: str = "<mask>",
        **settings: Any,
    ) -> None:
        super().__init__(model, tokenizer, prompt=prompt, mask=mask, **settings)


class CausalLMDenoiser(_Generative):
    """Repair noisy texts by asking any `AutoModelForCausalLM`; the answer is one line.

    Source: Zhang et al., SelfDenoise (Findings of NAACL 2024).
    Departs: One prompt that the user chooses, and masks drawn uniformly.
    """

    loader = "AutoModelForCausalLM"
    continues = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        prompt: str = PROMPT,
        mask: str = "[MASK]",
        **settings: Any,
    ) -> None:
        super().__init__(model, tokenizer, prompt=prompt, mask=mask, **settings)


class _Chooser(LogitsProcessor):
    """Add noise to the scores, so that the best is a draw, and watch for near ties."""

    def __init__(
        self, noise: TokenNoise, places: torch.Tensor, ends: torch.Tensor, tolerance: float
    ) -> None:
        self._noise, self._places, self._ends = noise, places, ends
        self._tolerance, self._step = tolerance, 0
        self._ended = torch.zeros(len(places), dtype=torch.bool)
        self.sure = torch.ones(len(places), dtype=torch.bool)

    def __call__(self, input_ids: Any, scores: Any) -> Any:  # noqa: ARG002
        if torch.isnan(scores).any():
            raise ModelError(
                "the denoiser gave scores that are not numbers (NaN). Check its weights, or use "
                "float32."
            )
        largest = scores.masked_fill(torch.isinf(scores), 0.0).abs().amax(dim=1)
        scores = self._noise.added_to(scores, self._places[:, self._step])
        self._step += 1
        top = scores.topk(2, dim=1)
        clear = top.values[:, 0] - top.values[:, 1] > self._tolerance * (1.0 + largest)
        self.sure &= clear.cpu() | self._ended
        self._ended |= torch.isin(top.indices[:, 0], self._ends).cpu()
        return scores


def _ends(model: Any, tokenizer: Any, *, newline: bool) -> set[int]:
    """Return the tokens after which a text has ended."""
    known = model.generation_config.eos_token_id
    ends = {known} if isinstance(known, int) else set(known or ())
    if tokenizer.eos_token_id is not None:
        ends.add(int(tokenizer.eos_token_id))
    if newline:
        ids = tokenizer("\n", add_special_tokens=False)["input_ids"]
        ends |= set(ids) if len(ids) == 1 else set()
    return ends
