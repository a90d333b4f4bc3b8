"""From a prompt to a peer's token ids, through its chat template if it has one."""

from __future__ import annotations

from typing import Any

from core_lightning.peers.config import PeerConfig
from core_lightning.peers.sources import PeerSourceError
from core_lightning.protocol.prompts import Prompt


def uses_chat(tokenizer: Any, config: PeerConfig, name: str) -> bool:
    """Whether this peer reads chat messages or plain text.

    Raises:
        PeerSourceError: Chat is asked for and the tokenizer has no template.
    """
    if config.prompt_style == "chat" and not tokenizer.chat_template:
        raise PeerSourceError(
            f"peer {name!r}: prompt_style is chat, but {config.model} has no chat template; use plain"
        )
    return config.prompt_style != "plain" and bool(tokenizer.chat_template)


def encode_prompt(tokenizer: Any, prompt: Prompt, chats: bool) -> list[int]:
    """Token ids of a prompt."""
    if not chats:
        return list(tokenizer(prompt.text)["input_ids"])
    text = tokenizer.apply_chat_template(list(prompt.messages), tokenize=False, add_generation_prompt=True)
    # The template writes the beginning-of-sequence token itself.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
