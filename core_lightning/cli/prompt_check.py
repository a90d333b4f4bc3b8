"""Which problems the peers have room for, known from tokenizers and configurations before any weights are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from core_lightning.peers.config import PeerConfig
from core_lightning.peers.encoding import PromptEncoder
from core_lightning.peers.loading import load_tokenizer
from core_lightning.peers.sources import ModelSource, PeerSourceError, resolve
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.records import Problem


class Reader:
    """A peer without its weights: how it reads a prompt, and how long a prompt may be.

    Args:
        name: The peer.
        config: Its settings.

    Attributes:
        room: Longest prompt in tokens: the setting, or what the context leaves beside a completion.

    Raises:
        PeerSourceError: The tokenizer or the configuration cannot be read, or completions fill the whole context.
    """

    def __init__(self, name: str, config: PeerConfig) -> None:
        source = resolve(config.model, config.revision)
        self.name = name
        self.tokenizer: Any = load_tokenizer(source)
        shape = text_config(source)
        self.encoder = PromptEncoder(self.tokenizer, config, name, getattr(shape, "vocab_size", None))
        context, new = getattr(shape, "max_position_embeddings", None), config.generation.max_new_tokens
        width = getattr(shape, "hidden_size", None)
        if width is not None and config.lora.r > width:
            raise PeerSourceError(
                f"peers.{name}.lora.r is {config.lora.r}, more than the width of {config.model}, {width}: a rank above it "
                "adds nothing but memory; lower it"
            )
        self.room = config.generation.room(context)
        self.mend = f"raise peers.{name}.generation.max_prompt_tokens"
        if self.room < config.generation.max_prompt_tokens:
            self.mend = f"lower peers.{name}.generation.max_new_tokens, since the context has {context} tokens"
        if self.room < 1:
            raise PeerSourceError(
                f"peers.{name}.generation.max_new_tokens is {new}, but the context of {config.model} has only {context} "
                "tokens; lower it, so that a prompt fits beside a completion"
            )

    def encode(self, problem: Problem, prompts: PromptSettings, hint: str | None = None) -> list[int]:
        """Token ids of the problem's prompt, with the hint in it if there is one."""
        return self.encoder.encode(prompts.render(problem, hint))


def text_config(source: ModelSource) -> Any:
    """Configuration of a model's language part: positions it was made for, size of its vocabulary."""
    from transformers import AutoConfig

    try:
        settings = AutoConfig.from_pretrained(
            source.name_or_path, revision=source.revision, local_files_only=source.local, trust_remote_code=False
        )
    except Exception as error:  # the tokenizer was read from the same place, so the file itself is at fault
        reason = " ".join(str(error).split())[:200]
        raise PeerSourceError(f"model {source.name_or_path!r}: its config.json cannot be read ({reason})") from error
    return settings.get_text_config()


def check_room(
    splits: Mapping[str, Sequence[Problem]], peers: Mapping[str, PeerConfig], prompts: PromptSettings
) -> None:
    """Say how many problems are too long for some peer, and refuse a split of which nothing is left.

    Args:
        splits: Problems by the name of their split.
        peers: The team.
        prompts: Templates. Only the plain prompt counts: hints are cut to fit.

    Raises:
        ValueError: No problem of a split has room; names the peer that reads the fewest, and the mend.
    """
    readers = [Reader(name, config) for name, config in peers.items()]
    for split, problems in splits.items():
        lengths = [[len(reader.encode(p, prompts)) for p in problems] for reader in readers]
        fits = [[n <= reader.room for n in own] for reader, own in zip(readers, lengths, strict=True)]
        left_out = len(problems) - sum(map(all, zip(*fits, strict=True)))
        if problems and left_out == len(problems):
            reader, own = min(zip(readers, lengths, strict=True), key=lambda r: sum(n <= r[0].room for n in r[1]))
            raise ValueError(
                f"all {left_out} {split} problems are longer than the peers' room: the shortest prompt of peer "
                f"{reader.name} has {min(own)} tokens, and there is room for {reader.room}; {reader.mend}"
            )
        if left_out:
            rank_zero_info(f"{left_out} of {len(problems)} {split} problems are longer than a peer's room: left out")
