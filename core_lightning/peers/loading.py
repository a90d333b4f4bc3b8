"""From a ``PeerConfig`` to a frozen, possibly quantized base model with a float32 LoRA adapter, and its tokenizer."""

from __future__ import annotations

import re
import sys
from typing import Any

import torch
from torch import nn

from core_lightning.peers.compute.attention import attend_by_products
from core_lightning.peers.compute.norms import fuse_norms
from core_lightning.peers.compute.processor import native_bfloat16
from core_lightning.peers.config import LoraSettings, PeerConfig
from core_lightning.peers.sources import ModelSource, PeerSourceError, converted_tokenizer, resolve

#: Parts of conditional-generation models that text never passes through: an adapter there would never learn.
_BESIDE_TEXT = r"(.*\.)?(vision_tower|vision_model|audio_tower|multi_modal_projector)\..*"


def compute_dtype(config: PeerConfig, device: torch.device) -> torch.dtype:
    """The type the base computes in, with ``auto`` decided for the device.

    A processor without native bfloat16 multiplies it some ten times slower than float32, so ``auto`` avoids it there.
    """
    if config.dtype != "auto":
        return getattr(torch, config.dtype)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if native_bfloat16() else torch.float32


def load_tokenizer(source: ModelSource) -> Any:
    """The tokenizer of a base model, with a padding token.

    Raises:
        PeerSourceError: It cannot be read, or has neither a padding nor an end token.
    """
    from transformers import AutoTokenizer

    tokenizer = converted_tokenizer(source.name_or_path)
    if tokenizer is None:
        # Where mistral-common is installed, its own class would be chosen, which has neither templates nor offsets.
        tokenizer = _from_hub(AutoTokenizer.from_pretrained, source, mistral_format=False)
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
        raise PeerSourceError(
            f"model {source.name_or_path!r}: its tokenizer has neither a padding nor an end token; name one of them in its "
            "tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(config: PeerConfig, source: ModelSource, device: torch.device) -> nn.Module:
    """The frozen base in evaluation mode on its device.

    Raises:
        PeerSourceError: The hub is unreachable, the model is gated or absent, or its weights cannot be read.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()  # in a file, hundreds of bars
    dtype = compute_dtype(config, device)
    settings = _from_hub(AutoConfig.from_pretrained, source)
    # Conditional-generation models (Mistral 3, for one) are used text-only; they are not registered as causal models.
    registered = type(settings) in AutoModelForCausalLM._model_mapping
    factory = AutoModelForCausalLM if registered else AutoModelForImageTextToText
    quantized = _quantization(config, dtype)
    network = _from_hub(
        factory.from_pretrained,
        source,
        dtype=dtype,
        device_map={"": device} if quantized is not None else None,
        quantization_config=quantized,
    )
    if quantized is None:
        network = network.to(device)
    attend_by_products(network)
    if device.type == "cuda":
        fuse_norms(network)
    return network.requires_grad_(False).eval()


def add_adapter(network: nn.Module, name: str, lora: LoraSettings, start: str | None = None) -> nn.Module:
    """Put a peer's float32 LoRA adapter on a base (or beside the adapters it has) and return the PEFT model.

    Args:
        network: A base model, or the PEFT model made by an earlier call.
        name: Name of the peer; adapters of several peers can live on one base.
        lora: Shape of a new adapter.
        start: PEFT folder to start from instead; it is loaded twice, to be trained and, frozen, as the KL reference.

    Raises:
        PeerSourceError: The adapter folder does not fit, or no layer of the model has a target's name.
    """
    import peft

    if start is not None:
        try:
            if isinstance(network, peft.PeftModel):
                network.load_adapter(start, adapter_name(name), is_trainable=True)
            else:
                network = peft.PeftModel.from_pretrained(
                    network, start, adapter_name=adapter_name(name), is_trainable=True
                )
            network.load_adapter(start, reference_name(name), is_trainable=False)
        except (ValueError, OSError, RuntimeError) as error:
            raise PeerSourceError(f"peer {name!r}: adapter {start!r} cannot be loaded ({first_line(error)})") from error
    else:
        names = [n for n, _ in network.named_modules()]
        shape = peft.LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float works and is saved as given
            lora_dropout=lora.dropout,
            target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
            exclude_modules=_BESIDE_TEXT if any(map(re.compile(_BESIDE_TEXT).fullmatch, names)) else None,
            task_type="CAUSAL_LM",
        )
        try:
            if isinstance(network, peft.PeftModel):
                network.add_adapter(adapter_name(name), shape)
            else:
                network = peft.get_peft_model(network, shape, adapter_name=adapter_name(name))
        except ValueError as error:
            linear = {n.rsplit(".", 1)[-1] for n, m in network.named_modules() if isinstance(m, nn.Linear)}
            layers = sorted(linear - {"lm_head", "base_layer"})
            raise PeerSourceError(
                f"peer {name!r}: lora.targets {lora.targets} fit no layer; choose among {', '.join(layers)} "
                f"({first_line(error)})"
            ) from error
    return network


def adapter_name(peer: str) -> str:
    """Name of a peer's adapter in the PEFT model, which warns about names that are part of "lora_", as "a" is."""
    return f"peer_{peer}"


def reference_name(peer: str) -> str:
    """Name of the frozen copy a peer is compared with when it starts from an adapter."""
    return f"{adapter_name(peer)}__reference"


def stop_token_ids(tokenizer: Any, network: Any) -> frozenset[int]:
    """Every token that ends a completion: the model's list, the tokenizer's, and the chat template's end of turn.

    Honouring only one of them marks finished completions as truncated.
    """
    ids: set[int] = set()
    text_config = network.config.get_text_config()
    for source in (network.generation_config, network.config, text_config, tokenizer):
        value = getattr(source, "eos_token_id", None)
        ids.update([value] if isinstance(value, int) else (value or []))
    end_of_turn = turn_end_id(tokenizer)
    return frozenset(ids if end_of_turn is None else ids | {end_of_turn})


def turn_end_id(tokenizer: Any) -> int | None:
    """The special token the chat template writes behind an assistant's turn, if there is one."""
    if not tokenizer.chat_template:
        return None
    turn = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "ANSWER"}]
    try:
        after = tokenizer.apply_chat_template(turn, tokenize=False).rsplit("ANSWER", 1)[-1]
    except Exception:  # a template may refuse such a conversation; the model's own list has to do
        return None
    specials = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())
    following = tokenizer(after, add_special_tokens=False)["input_ids"]
    return following[0] if following and following[0] in specials else None


def _quantization(config: PeerConfig, dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    if config.quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_use_double_quant=False,
        )
    if config.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return None


def _from_hub(load: Any, source: ModelSource, **options: Any) -> Any:
    """Call a ``from_pretrained`` and turn its many failures into one clear line."""
    try:
        return load(source.name_or_path, revision=source.revision, local_files_only=source.local, **options)
    except Exception as error:
        text = str(error)
        where = f"model {source.name_or_path!r}"
        if source.local:
            mend = f"it cannot be read ({first_line(error)})"
        elif re.search(r"\b(gated|401|403|restricted)\b", text, re.IGNORECASE):
            mend = "it is gated: accept its terms on the hub and log in with `hf auth login`"
        elif re.search(r"connect|offline|resolve|timed? ?out|couldn't", text, re.IGNORECASE):
            mend = "the hub cannot be reached; check the network, or give a local folder"
        elif re.search(r"not a (local folder|valid)|404|not found", text, re.IGNORECASE):
            mend = "no such model on the hub; check the id and the revision"
        else:
            mend = f"it cannot be loaded ({first_line(error)})"
        raise PeerSourceError(f"{where}: {mend}") from error


def first_line(error: BaseException) -> str:
    """First line of an error's message, for messages of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


__all__ = [
    "adapter_name",
    "add_adapter",
    "compute_dtype",
    "first_line",
    "load_base",
    "load_tokenizer",
    "reference_name",
    "resolve",
    "stop_token_ids",
    "turn_end_id",
]
