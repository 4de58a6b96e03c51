"""Small tokenizers of the three families, and small models of many architectures."""

from __future__ import annotations

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "the film is a good film and the cast was brilliant",
    "a bad story , the plot is poor and it was not good at all",
    "don't you think this is an awful, tedious picture?",
    "this lovely movie isn't boring: i'd see it again!",
    "numbers 12 and 345, naïve café, über",
] * 4


def wordpiece() -> PreTrainedTokenizerFast:
    """Like BERT: [CLS] text [SEP], types for pairs; knows the words of the corpus and all letters.

    The library's trainer would choose other pieces in each process.
    """
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = {
        word
        for text in CORPUS
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    }
    letters = sorted(set("".join(words)))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *sorted(words)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def between_marks(backend: Tokenizer, **tokens: str) -> PreTrainedTokenizerFast:
    """Put <s> and </s> around texts, as RoBERTa and XLM-R do."""
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        mask_token="<mask>",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
        **tokens,
    )


def byte_level_bpe(*, special_tokens_around: bool = True) -> PreTrainedTokenizerFast:
    """Like RoBERTa with special tokens around texts, like GPT-2 without."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<s>", "<pad>", "</s>", "<mask>"],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    if not special_tokens_around:
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            eos_token="</s>",
            model_max_length=64,
            model_input_names=["input_ids", "attention_mask"],
        )
    return between_marks(backend)


def unigram() -> PreTrainedTokenizerFast:
    """Like XLM-R or ALBERT: SentencePiece's Unigram model with a word-boundary mark."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(
            vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False
        ),
    )
    return between_marks(backend, unk_token="<unk>")


def across_spaces() -> PreTrainedTokenizerFast:
    """A tokenizer whose pieces run across spaces, so that whole strings must be tokenized."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Replace(" ", "▁")
    pieces = trainers.UnigramTrainer(
        vocab_size=150,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
        max_piece_length=24,
    )
    backend.train_from_iterator(CORPUS, pieces)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    )


TOKENIZERS = {
    "wordpiece": wordpiece,
    "byte-level BPE": byte_level_bpe,
    "byte-level BPE without special tokens": lambda: byte_level_bpe(special_tokens_around=False),
    "unigram": unigram,
}

_SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 80,
    "initializer_range": 0.7,
}

ARCHITECTURES = {
    "Bert": {},
    "Roberta": {"type_vocab_size": 1},
    "DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "Albert": {"embedding_size": 8},
    "Electra": {"embedding_size": 8},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "MPNet": {},
    "XLNet": {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32},
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 80},
    "Llama": {"num_key_value_heads": 2},
    "Qwen2": {"num_key_value_heads": 2},
    "ModernBert": {"global_attn_every_n_layers": 1},
}


def tiny_model(architecture: str, tokenizer: PreTrainedTokenizerFast, num_labels: int = 2):
    """Build a small sequence classifier with random weights that tell texts apart."""
    config_class = getattr(transformers, f"{architecture}Config")
    settings = {**_SMALL, **ARCHITECTURES[architecture]}
    if architecture == "XLNet":
        settings = {**ARCHITECTURES[architecture], "initializer_range": 0.7}
    config = config_class(
        vocab_size=len(tokenizer),
        num_labels=num_labels,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **settings,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = getattr(transformers, f"{architecture}ForSequenceClassification")(config)
    return model.eval()
