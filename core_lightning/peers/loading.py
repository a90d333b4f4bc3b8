"""From a ``PeerConfig`` to a frozen, possibly quantized base model and its tokenizer."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from core_lightning.peers.compute.attention import attend_by_products
from core_lightning.peers.compute.norms import fuse_norms
from core_lightning.peers.compute.processor import exact_int8_products, native_bfloat16
from core_lightning.peers.config import PeerConfig
from core_lightning.peers.sources import ModelSource, PeerSourceError, converted_tokenizer, first_line, resolve


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
        tokenizer = from_hub(AutoTokenizer.from_pretrained, source, mistral_format=False)
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
        PeerSourceError: The hub is unreachable, the model is gated or absent, its weights cannot be read, or they have 8
            bits and the processor would multiply them wrongly.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.utils.logging import disable_progress_bar

    if not sys.stderr.isatty():
        disable_progress_bar()  # in a file, hundreds of bars
    dtype = compute_dtype(config, device)
    settings = from_hub(AutoConfig.from_pretrained, source)
    # Conditional-generation models (Mistral 3, for one) are used text-only; they are not registered as causal models.
    registered = type(settings) in AutoModelForCausalLM._model_mapping
    factory = AutoModelForCausalLM if registered else AutoModelForImageTextToText
    stored = stored_quantizer(settings)
    quantized = _quantization(config, dtype, stored)
    if device.type == "cpu" and (config.quantization == "int8" or stored == "bitsandbytes_8bit"):
        _check_int8(source)
    options: dict[str, Any] = {}
    if quantized is not None:
        # An argument of None would switch the checkpoint's own quantizer off.
        options["quantization_config"] = quantized
    if quantized is not None or stored is not None:
        options["device_map"] = {"": device}
    with _quiet_loading():
        network, found = from_hub(
            factory.from_pretrained,
            source,
            dtype=dtype,
            output_loading_info=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are named below
            **options,
        )
    _check_whole(found, source, settings)
    if stored is not None:
        _one_type(network, dtype)
    if not options:
        network = network.to(device)
    if config.compute == "native":
        attend_by_products(network)
        if device.type == "cuda":
            fuse_norms(network)
    return network.requires_grad_(False).eval()


@contextmanager
def runs_on_text(what: str, doing: str = "be run on text alone") -> Iterator[None]:
    """While a model reads its first tokens: whatever its own code raises is one line.

    Args:
        what: Peer and model, for the line.
        doing: What it cannot do if it fails.

    Raises:
        PeerSourceError: It cannot be run.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError, LookupError) as error:
        raise PeerSourceError(f"{what} cannot {doing} ({first_line(error)})") from error


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


def stored_quantizer(settings: Any) -> str | None:
    """How the weights of a checkpoint are stored (``fp8``, ``gptq``, ...); None for plain ones.

    Args:
        settings: The model's configuration.
    """
    for part in (settings, settings.get_text_config()):
        stored = getattr(part, "quantization_config", None)
        if stored is not None:
            stored = stored if isinstance(stored, dict) else stored.to_dict()
            bits = "".join(f"_{n}bit" for n in (4, 8) if stored.get(f"load_in_{n}bit"))
            return f"{getattr(stored.get('quant_method'), 'value', stored.get('quant_method'))}".lower() + bits
    return None


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Leave out the library's table of keys that did not fit: it is an error here, said in one line."""
    report = logging.getLogger("transformers.modeling_utils")
    level = report.level
    report.setLevel(logging.ERROR)
    try:
        yield
    finally:
        report.setLevel(level)


def _check_whole(found: dict[str, Any], source: ModelSource, settings: Any) -> None:
    """Refuse a checkpoint that does not hold exactly the weights of a language model of its configuration.

    Raises:
        PeerSourceError: Names the keys that are missing, of another shape, or without a place in the model.
    """
    wrong = {
        "it has no": found["missing_keys"],
        "of another shape are": {key[0] for key in found["mismatched_keys"]},
        "a language model has no place for its": found["unexpected_keys"],
    }
    said = [f"{what} {_few(sorted(keys))}" for what, keys in wrong.items() if keys]
    said += [first_line(ValueError(str(message))) for message in found.get("error_msgs") or ()]
    if said:
        kind = ", ".join(getattr(settings, "architectures", None) or ["unknown"])
        raise PeerSourceError(
            f"model {source.name_or_path!r} (saved as {kind}) is not whole: {'; '.join(said)}; weights that are not "
            "loaded would be random"
        )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _one_type(network: nn.Module, dtype: torch.dtype) -> None:
    """Unpacked weights come in the type their quantizer likes; activations have one type."""
    for parameter in network.parameters():
        # One byte a number is still packed, and float32 holds scales.
        if parameter.dtype in (torch.bfloat16, torch.float16) and parameter.dtype != dtype:
            parameter.data = parameter.data.to(dtype)


def _quantization(config: PeerConfig, dtype: torch.dtype, stored: str | None) -> Any:
    """What ``from_pretrained`` is told to pack the weights with; None to take them as they are stored.

    Raises:
        PeerSourceError: They are stored packed in another way.
    """
    from transformers import BitsAndBytesConfig

    if stored is not None:
        own = {"bitsandbytes_4bit": "nf4", "bitsandbytes_8bit": "int8"}.get(stored)
        if config.quantization not in ("none", own):
            raise PeerSourceError(
                f"model {config.model!r} is stored quantized ({stored}) and cannot be packed again as "
                f"{config.quantization}; set quantization to none, which keeps the weights as stored"
            )
        return None
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


def _check_int8(source: ModelSource) -> None:
    if not exact_int8_products():
        told = os.environ.get("ONEDNN_MAX_CPU_ISA")
        mend = (
            f"leave out ONEDNN_MAX_CPU_ISA, which is {told}"
            if told
            else "take weights in nf4 or unquantized ones, or a GPU"
        )
        raise PeerSourceError(
            f"model {source.name_or_path!r}: products of 8-bit weights are wrong on this processor; {mend}"
        )


def from_hub(load: Any, source: ModelSource, **options: Any) -> Any:
    """Call a ``from_pretrained`` and turn its many failures into one clear line.

    Code that comes with a model is never run, and weights are read from safetensors only: the older format is a pickle,
    which can run code, too.
    """
    safe = {"revision": source.revision, "local_files_only": source.local, "trust_remote_code": False}
    try:
        return load(source.name_or_path, **safe, **options)
    except Exception as error:
        text = str(error)
        where = f"model {source.name_or_path!r}"
        if "trust_remote_code" in text:
            mend = "it needs Python code of its own, which is not run; give a model that transformers knows"
        elif re.search(r"no file named \S*\.safetensors|safetensors.*(not found|does not)", text):
            mend = "it cannot be read: it has no weights in safetensors; give a copy that has, saved by save_pretrained"
        elif source.local:
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


__all__ = [
    "compute_dtype",
    "from_hub",
    "load_base",
    "load_tokenizer",
    "resolve",
    "stop_token_ids",
    "stored_quantizer",
    "turn_end_id",
]
