"""Smoothed classifiers: a base classifier that votes on noisy versions of a text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from robust_nlp.base_classifier import BaseClassifier, Side, Text, checked_texts
from robust_nlp.certification.certificates import Certificate, certificate_from_votes
from robust_nlp.certification.engine import VoteRecord, cast_votes
from robust_nlp.certification.plan import FixedPlan, SamplingPlan, SequentialPlan
from robust_nlp.errors import ModelError, did_you_mean
from robust_nlp.mechanisms import AnyMechanism
from robust_nlp.mechanisms.base import FloatArray, TextMechanism
from robust_nlp.threats import parse_attacker
from robust_nlp.units import keyed_rng

if TYPE_CHECKING:
    from robust_nlp.smoothed_pipeline import SmoothedPipeline

#: The file beside a checkpoint that says how it is smoothed.
SMOOTHING_FILE = "smoothing.json"


class SmoothedClassifier:
    """A base classifier, a mechanism, and the most frequent answer to noisy versions of a text.

    Args:
        base: The base classifier.
        mechanism: The law of the noise. A `RandomMasking` without a mask takes the mask token of
            the base classifier's tokenizer.

    Raises:
        ModelError: If masking finds no mask token.
    """

    def __init__(self, base: BaseClassifier, mechanism: TextMechanism) -> None:
        self.base = base
        self.mechanism = resolve_mask(mechanism, getattr(base, "tokenizer", None))

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        mechanism: TextMechanism | None = None,
        revision: str | None = None,
        max_length: int | None = None,
        prefix: str | None = None,
        protected: Side | None = None,
        device: Any = None,
        dtype: str | None = None,
        batch_tokens: int = 4096,
        denoiser: bool = True,
    ) -> SmoothedClassifier:
        """Load a classifier, and how it is smoothed if it was saved with that.

        Nothing that is loaded is run as code: of a smoothed classifier on the Hub, pickles and
        Python files are not even downloaded.

        Args:
            path: Folder or Hub id of a sequence classifier with its tokenizer.
            mechanism: The law of the noise; `None` takes the one saved beside the checkpoint.
            revision: Hub revision.
            max_length: Tokens read at most; `None` takes what was saved, else the model's limit.
            prefix: Fixed text before every input; `None` takes what was saved, else none.
            protected: Protected side of pairs; `None` takes what was saved, else "second".
            device: A torch device; `None` takes a GPU if there is one.
            dtype: Precision of the weights: "float32", "bfloat16" or "float16"; `None` takes what
                was saved, else "float32". Another precision is another base classifier.
            batch_tokens: Tokens in a batch; changes the speed, never a vote.
            denoiser: Whether to load the denoiser that was saved with the classifier, if any.

        Raises:
            ModelError: If the classifier cannot be loaded, no mechanism is known, or what comes
                from the Hub names code, has no safetensors, or reads files of yours.
        """
        from robust_nlp.huggingface import HuggingFaceClassifier
        from robust_nlp.sharing import fetch

        found = fetch(path, revision=revision)
        saved = load_smoothing(found.path, shared=found.shared)
        mechanism = mechanism or saved.get("mechanism")
        if mechanism is None:
            looked = f" ({found.why_not})" if found.why_not else ""
            raise ModelError(
                f"{str(path)!r} has no {SMOOTHING_FILE} that names a mechanism{looked}; pass one, "
                "such as mechanism=RandomizedDeletion(p_del=0.9)"
            )
        base: Any = HuggingFaceClassifier.from_pretrained(
            found.path,
            revision=None if found.shared else revision,
            max_length=saved.get("max_length") if max_length is None else max_length,
            prefix=saved.get("prefix", "") if prefix is None else prefix,
            protected=protected or saved.get("protected", "second"),
            device=device,
            dtype=dtype or saved.get("dtype", "float32"),
            batch_tokens=batch_tokens,
        )
        if denoiser and saved.get("denoiser") is not None:
            from robust_nlp.sharing.folder import with_denoiser

            base = with_denoiser(base, Path(found.path), saved["denoiser"], device=device)
        return cls(base, mechanism)

    def save_pretrained(self, folder: str | Path) -> None:
        """Save everything that answers and certificates depend on, as plain files.

        These are the model (safetensors) and its tokenizer, `smoothing.json`, what the mechanism
        reads from files (allowed swaps, distances, a vocabulary), the denoiser in the folder
        `denoiser`, and a README.md if there is none. `from_pretrained` loads them on any machine.

        Args:
            folder: Where to; made if it is missing.

        Raises:
            ModelError: If base classifier or denoiser are not Hugging Face models of this package.
            DataError: If a file of the mechanism cannot be read.
        """
        from robust_nlp.sharing.folder import save

        _write(Path(folder), save(self, Path(folder)))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        commit_message: str = "Upload smoothed classifier",
        card: str | None = None,
    ) -> str:
        """Upload to the Hub what `save_pretrained` saves: plain files, no pickles, no code.

        Args:
            repo_id: Such as "me/my-smoothed-classifier"; made if it is missing.
            private: Whether a repository that is made is private; `None` takes your default.
            token: Your token; `None` takes the one that you logged in with.
            commit_message: Message of the commit.
            card: The README.md, such as `robust_nlp.card.model_card(run)`; `None` keeps that of
                the repository, or writes one that says how to use the classifier.

        Returns:
            The address of the commit.

        Raises:
            ModelError: If the classifier cannot be saved as plain files; nothing is uploaded then.
        """
        from robust_nlp.sharing import push

        return push(
            self,
            repo_id,
            private=private,
            token=token,
            commit_message=commit_message,
            card=card,
        )

    def as_pipeline(self, **settings: Any) -> SmoothedPipeline:
        """Return an object that is called like a `text-classification` pipeline.

        Args:
            settings: See `SmoothedPipeline`.
        """
        from robust_nlp.smoothed_pipeline import SmoothedPipeline

        return SmoothedPipeline(self, **settings)

    @property
    def labels(self) -> list[str]:
        """Names of the classes."""
        return self.base.labels

    def votes(
        self,
        texts: Sequence[Text],
        plan: SamplingPlan,
        *,
        seed: int = 0,
        attacker: Iterable[str] | str | None = None,
        on_done: Callable[[int, VoteRecord], None] | None = None,
        known: dict[Hashable, int] | None = None,
    ) -> list[VoteRecord]:
        """Cast the votes of a plan; see `robust_nlp.certification.engine.cast_votes`.

        Args:
            texts: Texts, or pairs of texts of which one is protected.
            plan: How many votes, at which alpha, and when to stop.
            seed: Seed of the noise.
            attacker: The attacker's moves; `None` takes all that the mechanism certifies.
            on_done: Called with the position and the record of each text as it is finished.
            known: Answers of this very base classifier, kept from one call to the next.
        """
        return cast_votes(
            self.base,
            self.mechanism,
            checked_texts(texts),
            plan,
            seed=seed,
            attacker=self.mechanism.certifies if attacker is None else parse_attacker(attacker),
            on_done=on_done,
            known=known,
        )

    def certify(
        self,
        texts: Sequence[Text],
        plan: SamplingPlan | None = None,
        *,
        seed: int = 0,
        attacker: Iterable[str] | str | None = None,
    ) -> list[Certificate]:
        """Certify texts: which answer, and how many edits cannot change it.

        Args:
            texts: Texts, or pairs of texts of which one is protected.
            plan: How many votes, at which alpha; `None` takes `SequentialPlan()`, alpha 0.001.
            seed: Seed of the noise.
            attacker: The attacker's moves; `None` takes all that the mechanism certifies.

        Returns:
            One certificate a text. Each fails with probability at most alpha.
        """
        plan = plan or SequentialPlan()
        attacker = self.mechanism.certifies if attacker is None else parse_attacker(attacker)
        return [
            certificate_from_votes(
                record.votes, self.mechanism, alpha=plan.alpha or 0.5, attacker=attacker
            )
            for record in self.votes(texts, plan, seed=seed, attacker=attacker)
        ]

    def predict(
        self, texts: Sequence[Text], plan: SamplingPlan | None = None, *, seed: int = 0
    ) -> list[int | None]:
        """Return the answer of the smoothed classifier, or `None` where the votes leave a doubt.

        A returned class is not the most probable one with probability at most the plan's alpha.

        Args:
            texts: Texts, or pairs of texts of which one is protected.
            plan: `None` takes up to 2,000 votes at alpha 0.001 and stops at the first certainty.
            seed: Seed of the noise.
        """
        plan = plan or SequentialPlan(max_votes=2_000, max_radius=0)
        return [certificate.predicted for certificate in self.certify(texts, plan, seed=seed)]

    def vote_shares(self, texts: Sequence[Text], n_votes: int, *, seed: int = 0) -> FloatArray:
        """Return the share of votes for each class, without any bound; `(texts, classes)`.

        Args:
            texts: Texts, or pairs of texts.
            n_votes: Votes per text, at least 1.
            seed: Seed of the noise.
        """
        plan = FixedPlan(n_selection=1, n_estimation=n_votes, enumerate_when_cheaper=False)
        # Draws of their own: what is chosen by these votes may be certified with the same seed.
        records = self.votes(texts, plan, seed=int(keyed_rng(seed, "shares").integers(2**63)))
        return np.array([record.votes.looks[-1] for record in records]) / n_votes

    def __call__(
        self, texts: Text | Iterable[Text], plan: SamplingPlan | None = None, *, seed: int = 0
    ) -> list[dict[str, Any]]:
        """Answer like a `text-classification` pipeline, with certificates.

        Returns:
            One dict a text: `label` (`None` on abstention), `score` (the lower bound of the
            label's probability under noise), `certified_radius` (`None` on abstention),
            `abstained`.
        """
        alone = isinstance(texts, str | tuple | dict)
        batch: list[Any] = [texts] if alone else list(texts)
        return [
            {
                "label": None if c.predicted is None else self.labels[c.predicted],
                "score": c.p_lower,
                "certified_radius": c.radius,
                "abstained": c.abstains,
            }
            for c in self.certify(batch, plan, seed=seed)
        ]


def resolve_mask(mechanism: TextMechanism, tokenizer: Any) -> TextMechanism:
    """Let masking write the tokenizer's mask token where it names no mask itself."""
    if not mechanism.needs_mask:
        return mechanism
    mask = getattr(tokenizer, "mask_token", None)
    if mask is None:
        raise ModelError(
            "the tokenizer has no mask token; say what stands for a masked word, such as "
            'RandomMasking(p_mask=0.7, mask="_")'
        )
    return dataclasses.replace(mechanism, mask=mask)  # type: ignore[call-arg]


def mechanism_from_dict(values: dict[str, Any]) -> TextMechanism:
    """Build a mechanism from the dict that `TextMechanism.to_dict` returned.

    Raises:
        ValueError: If `kind` is unknown or a setting is wrong.
    """
    kinds = {mechanism.kind: mechanism for mechanism in get_args(AnyMechanism)}
    settings = dict(values)
    kind = settings.pop("kind", None)
    if kind not in kinds:
        raise ValueError(
            f"mechanism kind must be one of {', '.join(kinds)}; got {kind!r}."
            f"{did_you_mean(str(kind), kinds)}"
        )
    mechanism: TextMechanism = kinds[kind](**settings)
    return mechanism


def save_smoothing(
    folder: str | Path,
    mechanism: TextMechanism,
    *,
    max_length: int | None,
    prefix: str = "",
    protected: Side = "second",
    dtype: str = "float32",
) -> None:
    """Write beside a checkpoint how it is smoothed; files of the mechanism stay where they are."""
    content = {
        "mechanism": mechanism.to_dict(),
        "max_length": max_length,
        "prefix": prefix,
        "protected": protected,
        "dtype": dtype,
    }
    _write(Path(folder), content)


def load_smoothing(folder: str | Path, *, shared: bool = False) -> dict[str, Any]:
    """Read how a checkpoint is smoothed; empty if it does not say, or is not a local folder.

    Args:
        folder: The folder of the checkpoint.
        shared: Whether the folder comes from somebody else, so that its mechanism must read
            nothing but files of the folder.

    Raises:
        ModelError: If the file cannot be read, or files of the mechanism are missing or changed.
    """
    from robust_nlp.sharing.noise import check_noise, check_self_contained, located

    path = Path(folder) / SMOOTHING_FILE
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = content.get("files", {})
        content["mechanism"] = mechanism_from_dict(located(Path(folder), content))
        if shared:
            check_self_contained(content["mechanism"], files)
        check_noise(content["mechanism"], files)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} does not say how to smooth the checkpoint: {error}") from error
    return content


def _write(folder: Path, content: dict[str, Any]) -> None:
    from robust_nlp import __version__

    text = json.dumps({"robust_nlp": __version__, **content}, indent=2)
    (folder / SMOOTHING_FILE).write_text(text + "\n", encoding="utf-8")
