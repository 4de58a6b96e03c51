"""Small language models, built from configurations, that repair texts at random."""

from __future__ import annotations

from functools import cache, partial

import torch
import transformers
from tiny import byte_level_bpe, unigram, wordpiece
from transformers import PreTrainedTokenizerFast

from robust_nlp.denoising import MASK

NOISY = [
    f"the film is {MASK} and the {MASK} was brilliant",
    f"{MASK} {MASK} {MASK}",
    f"{MASK} bad story , {MASK} plot",
    "nothing is masked here",
    "",
    f"numbers {MASK} 345 naïve {MASK} 中文 [MASK] <mask>",
    f"{MASK}",
    " ".join([MASK, "film"] * 60),
]

MASKED_LMS = {
    "wordpiece": ("BertForMaskedLM", wordpiece),
    "byte-level BPE": ("RobertaForMaskedLM", byte_level_bpe),
    "unigram": ("AlbertForMaskedLM", unigram),
    "distilbert": ("DistilBertForMaskedLM", wordpiece),
}
WRITERS = {
    "bart": ("BartForConditionalGeneration", byte_level_bpe),
    "t5": ("T5ForConditionalGeneration", unigram),
    "gpt2": ("GPT2LMHeadModel", partial(byte_level_bpe, special_tokens_around=False)),
    "llama": ("LlamaForCausalLM", partial(byte_level_bpe, special_tokens_around=False)),
}

_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 80,
    "initializer_range": 0.7,
}
_SETTINGS = {
    "BertForMaskedLM": _BERT,
    "RobertaForMaskedLM": {**_BERT, "type_vocab_size": 1},
    "DistilBertForMaskedLM": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "AlbertForMaskedLM": {**_BERT, "embedding_size": 8},
    "GPT2LMHeadModel": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128},
    "LlamaForCausalLM": {**_BERT, "num_key_value_heads": 2, "max_position_embeddings": 128},
    "BartForConditionalGeneration": {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 80,
        "init_std": 0.7,
        "forced_eos_token_id": None,
    },
    "T5ForConditionalGeneration": {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 1,
        "num_heads": 2,
        "initializer_factor": 5.0,
    },
}


def tiny_lm(name: str, tokenizer: PreTrainedTokenizerFast, seed: int = 3, **settings):
    """Build a small language model with random weights that tell texts apart."""
    config_name = name.split("For")[0].removesuffix("LMHeadModel") + "Config"
    bos = tokenizer.bos_token_id
    config = getattr(transformers, config_name)(
        **{
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": bos,
            "eos_token_id": tokenizer.eos_token_id,
            "decoder_start_token_id": tokenizer.eos_token_id if bos is None else bos,
            **_SETTINGS[name],
            **settings,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, name)(config)
    if name == "DistilBertForMaskedLM":
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(10.0)
    return model.eval()


@cache  # tokenizers that are trained twice may number their tokens in another order
def parts(name: str):
    """Return a model, to be copied before it is changed, and its tokenizer."""
    architecture, build = {**MASKED_LMS, **WRITERS}[name]
    tokenizer = build()
    return tiny_lm(architecture, tokenizer), tokenizer


def with_rounding(model, size: float = 3e-6):
    """Let the scores of a model differ with the batch, as on larger machines they do."""

    def hook(_module, _inputs, output):
        n, rows = output.logits.numel(), len(output.logits)
        wave = torch.sin(torch.arange(n) * (1.0 + rows)).view_as(output.logits)
        output.logits = output.logits + size * wave
        return output

    model.register_forward_hook(hook)
    return model
