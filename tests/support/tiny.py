"""Tiny untrained language models of different architectures and tokenizers, saved as plain folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from numerics import SEED

CHARACTERS = sorted(set("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ +-*/=?.,:;()[]{}<>#\\'\"!|_\n"))
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
GROUPED = SIZES | {"num_key_value_heads": 2}


def character_tokenizer(reverse: bool, chat: bool) -> PreTrainedTokenizerFast:
    specials = ["<pad>", "<bos>", "<eos>", "<end>", "<unk>"]
    characters = CHARACTERS[::-1] if reverse else CHARACTERS
    vocabulary = {t: i for i, t in enumerate([*specials, *characters])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def save(
    folder: Path, architecture: str, seed: int, *, reverse: bool = False, chat: bool = False, **shape: Any
) -> Path:
    """A model of random weights by the name of its architecture, and a character tokenizer.

    Args:
        folder: Where to.
        architecture: Class of the model, without ``ForCausalLM``.
        seed: Of the weights.
        reverse: Number the characters from the other end, so that two models disagree on every token.
        chat: Give the tokenizer a chat template.
        shape: Arguments of the configuration.
    """
    tokenizer = character_tokenizer(reverse, chat)
    torch.manual_seed(seed + SEED)
    config_name = {"GPT2LMHead": "GPT2Config", "Gemma3": "Gemma3TextConfig"}.get(architecture, f"{architecture}Config")
    config = getattr(transformers, config_name)(**(SPECIALS | {"vocab_size": len(tokenizer)} | shape))
    model_name = "GPT2LMHeadModel" if architecture == "GPT2LMHead" else f"{architecture}ForCausalLM"
    getattr(transformers, model_name)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_llama(folder: Path, seed: int = 0, chat: bool = True) -> Path:
    return save(folder, "Llama", seed, chat=chat, **GROUPED, tie_word_embeddings=True, eos_token_id=[2, 3])


def save_neox(folder: Path, seed: int = 1, chat: bool = False) -> Path:
    return save(folder, "GPTNeoX", seed, reverse=True, chat=chat, **SIZES)


def save_gemma3(folder: Path, seed: int = 2, window: int = 8) -> Path:
    """Sliding attention in three of four layers; prompts of the tests are longer than the window."""
    layers = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    shape = GROUPED | {"num_hidden_layers": 4, "head_dim": 8, "query_pre_attn_scalar": 8, "eos_token_id": [2, 3]}
    return save(folder, "Gemma3", seed, **shape, sliding_window=window, layer_types=layers)


def save_gemma2(folder: Path, seed: int = 3) -> Path:
    """Logits are capped at 5, tightly enough to matter."""
    shape = GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}
    return save(folder, "Gemma2", seed, reverse=True, **shape, final_logit_softcapping=5.0)


def save_gpt2(folder: Path, seed: int = 5) -> Path:
    """An older architecture whose base has dropout of its own, and learned positions."""
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3}
    return save(folder, "GPT2LMHead", seed, **shape, resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)


def save_phi3(folder: Path, seed: int = 6) -> Path:
    """Query, key and value in one projection, gate and up in another: the published names fit only half of its layers."""
    return save(folder, "Phi3", seed, chat=True, **GROUPED)


def save_mistral3(folder: Path, seed: int = 4) -> Path:
    """A conditional-generation model: text and vision, used text-only."""
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    tokenizer = character_tokenizer(reverse=False, chat=True)
    torch.manual_seed(seed + SEED)
    text = {"model_type": "mistral", "vocab_size": len(tokenizer), "head_dim": 8, "sliding_window": None}
    vision = {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = Mistral3Config(
        text_config=text | GROUPED | SPECIALS,
        vision_config=vision | {"num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        image_token_index=4,
    )
    Mistral3ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
