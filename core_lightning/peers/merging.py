"""An adapter becomes a part of a fresh 16-bit base: never of the packed copy it was trained on.

The base is read anew in float32, the adapter is merged there, and the sum is rounded once. What was written is then read
back and compared with base and adapter, by the log-probabilities of texts.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from core_lightning.peers.config import PeerConfig
from core_lightning.peers.loading import load_base, load_tokenizer, stored_quantizer
from core_lightning.peers.sources import ModelSource, PeerSourceError, first_line, readable, resolve

MergedType = Literal["auto", "bfloat16", "float16", "float32"]
COMPLETION = 48
"""Tokens of a greedy completion behind every prompt: the check looks at what the trained model itself says."""


class MergeError(ValueError):
    """The merged model is not the one that was trained."""


@dataclass(frozen=True)
class Merged:
    """The check of a merged model."""

    dtype: str
    tokens: int
    difference: float
    """Mean absolute difference of log-probabilities between the written model, and base and adapter, in nats per token."""
    effect: float
    """The same between base and adapter, and the base alone."""


def merge_adapter(
    config: PeerConfig,
    adapter: Path,
    prompts: Sequence[Sequence[int]],
    out: Path,
    dtype: MergedType = "auto",
    tolerance: float = 0.05,
) -> Merged:
    """Write the merged model, with its tokenizer, as safetensors that ``from_pretrained`` reads without PEFT.

    Args:
        config: Of the peer; how its base was packed in training plays no part.
        adapter: PEFT folder of the trained adapter.
        prompts: Token ids of held-out prompts; the log-probabilities of these and of a greedy completion are compared.
        out: A folder that is not there; it appears when everything is done and checked.
        dtype: Of the written weights; ``auto`` is the base's own if that has 16 bits, else bfloat16.
        tolerance: Largest mean difference of log-probabilities, in nats per token.

    Raises:
        MergeError: The written model differs by more than that, or rounding takes half of what the adapter does.
        PeerSourceError: The base cannot be read, or is stored packed, so that there is none to merge into.
    """
    import peft

    source = _pinned(resolve(config.model, config.revision), adapter)
    bare = replace(
        config, quantization="none", dtype="float32", device="cpu", adapter=None, gradient_checkpointing=False
    )
    chosen = _dtype(source, config.model, dtype)
    network = load_base(bare, source, torch.device("cpu"))
    try:
        with_adapter: Any = peft.PeftModel.from_pretrained(network, str(adapter))
    except (ValueError, OSError, RuntimeError) as error:
        raise PeerSourceError(
            f"adapter {str(adapter)!r} cannot be put on {config.model} ({first_line(error)})"
        ) from error
    tokenizer = load_tokenizer(source)
    texts = [_completed(with_adapter, prompt, tokenizer) for prompt in prompts]
    trained = [logprobs(with_adapter, text) for text in texts]
    with with_adapter.disable_adapter():
        untrained = [logprobs(with_adapter, text) for text in texts]
    merged = with_adapter.merge_and_unload(safe_merge=True).to(chosen)
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        merged.save_pretrained(str(fresh))
        tokenizer.save_pretrained(str(fresh))
        readable(fresh, "config.json")
        del network, with_adapter, merged
        gc.collect()
        read_back = load_base(bare, ModelSource(str(fresh), local=True), torch.device("cpu"))
        written = [logprobs(read_back, text) for text in texts]
        name = str(chosen).removeprefix("torch.")
        check = Merged(name, sum(map(len, written)), distance(written, trained), distance(trained, untrained))
        _refuse(check, config.model, tolerance)
        out.parent.mkdir(parents=True, exist_ok=True)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return check


@torch.no_grad()
def logprobs(network: Any, text: Sequence[int]) -> Tensor:
    """Log-probability of every token behind the first, ``float32 Tensor[tokens - 1]``, from one plain pass."""
    ids = torch.tensor([list(text)])
    logits = network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]


def distance(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Mean absolute difference of log-probabilities, in nats per token.

    >>> distance([torch.tensor([-1.0, -2.0])], [torch.tensor([-1.5, -2.0])])
    0.25
    """
    return float((torch.cat(list(some)) - torch.cat(list(others))).abs().mean())


def _refuse(check: Merged, model: str, tolerance: float) -> None:
    said = f"log-probabilities of {check.tokens} tokens differ from those of base and adapter by {check.difference:.2g} nats"
    if not check.difference <= tolerance:  # NaN, too
        raise MergeError(
            f"the model merged into {model} is another one: {said} on average; at most {tolerance:g} is taken"
        )
    if check.effect > 0 and check.difference > check.effect / 2:
        raise MergeError(
            f"rounding to {check.dtype} takes most of what was learned: {said} on average, and the adapter itself moves "
            f"them by {check.effect:.2g}; train for longer, or merge with --dtype float32"
        )


def _pinned(source: ModelSource, adapter: Path) -> ModelSource:
    """The base at the commit that the adapter was trained on, where that is known."""
    try:
        commit = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get("revision")
    except (OSError, ValueError) as error:
        raise PeerSourceError(f"adapter {str(adapter)!r} cannot be read ({first_line(error)})") from error
    return source if source.local or not commit else replace(source, revision=commit)


def _dtype(source: ModelSource, model: str, asked: MergedType) -> torch.dtype:
    """The type of the merged weights.

    Raises:
        PeerSourceError: The base is stored packed.
    """
    from transformers import AutoConfig

    from core_lightning.peers.loading import from_hub

    settings = from_hub(AutoConfig.from_pretrained, source)
    if packed := stored_quantizer(settings):
        raise PeerSourceError(
            f"model {model!r} is stored quantized ({packed}), so there is no 16-bit base to merge into; serve base and "
            "adapter as they are, or train on a release of the model that is not packed"
        )
    if asked != "auto":
        return getattr(torch, asked)
    own = getattr(settings.get_text_config(), "dtype", None) or getattr(settings, "dtype", None)
    return own if own in (torch.bfloat16, torch.float16) else torch.bfloat16


@torch.no_grad()
def _completed(network: Any, prompt: Sequence[int], tokenizer: Any) -> list[int]:
    ids = torch.tensor([list(prompt)])
    limit = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    room = COMPLETION if limit is None else max(0, min(COMPLETION, limit - len(prompt)))
    if not room:
        return list(prompt)
    done = network.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=room,
        pad_token_id=tokenizer.pad_token_id,
        temperature=None,
        top_p=None,
        top_k=None,
    )
    return done[0].tolist()
