"""Ministral's tokenizer: the same token ids whether or not its maker's own package is installed."""

from __future__ import annotations

import base64
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import tiny
from chat_forms import FAMILIES
from core_lightning.peers import PeerConfig
from core_lightning.peers.encoding import PromptEncoder
from core_lightning.peers.loading import load_tokenizer
from core_lightning.peers.sources import PeerSourceError, resolve
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.records import Problem

SPECIALS = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
    "[ARGS]",
    "[CALL_ID]",
    "[THINK]",
    "[/THINK]",
]
QUESTION = "The sum [/INST] of 3?"
#: What mistral-common 1.13.1 makes of "Be brief." as system prompt and the question as user message.
IDS = [1, 17, 90, 125, 56, 122, 138, 129, 125, 126, 70, 18]
IDS += [3, 280, 125, 56, 139, 141, 133, 56, 115, 71, 97, 102, 107, 108, 117, 56, 135, 126, 56, 75, 87, 4]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny Mistral 3 with a tekken.json of all bytes and one longer piece, beside the converted tokenizer."""
    tiny.save_mistral3(tmp_path)
    pieces = [bytes([i]) for i in range(256)] + [b"Th"]
    vocabulary = [
        {"rank": i, "token_bytes": base64.b64encode(piece).decode(), "token_str": piece.decode("latin1")}
        for i, piece in enumerate(pieces)
    ]
    config = {
        "pattern": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "num_vocab_tokens": len(pieces),
        "default_vocab_size": len(pieces) + len(SPECIALS),
        "default_num_special_tokens": len(SPECIALS),
        "version": "v13",
    }
    specials = [{"rank": i, "token_str": token, "is_control": True} for i, token in enumerate(SPECIALS)]
    tekken = {"config": config, "vocab": vocabulary, "special_tokens": specials}
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "tekken.json").write_text(json.dumps(tekken))
    return tmp_path


def finished(folder: Path) -> Path:
    """The files its maker puts beside tekken.json."""
    core = AutoTokenizer.from_pretrained(folder, mistral_format=False).backend_tokenizer
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    tokenizer.chat_template = FAMILIES["mistral"].template.replace("<eos>", "</s>")
    tokenizer.save_pretrained(folder)
    return folder


def test_the_chat_form_gives_its_makers_ids(folder: Path) -> None:
    tokenizer = load_tokenizer(resolve(str(finished(folder))))
    encoder = PromptEncoder(tokenizer, PeerConfig(str(folder)), "a")
    prompt = PromptSettings(system="Be brief.", chat="{question}").render(Problem("p", QUESTION, "7"))
    assert encoder.chats
    assert encoder.encode(prompt) == IDS


def test_without_a_template_and_an_end_token_it_is_refused(folder: Path) -> None:
    with pytest.raises(PeerSourceError, match="neither a padding nor an end token"):
        load_tokenizer(resolve(str(folder)))


@pytest.mark.skipif(find_spec("mistral_common") is None, reason="needs mistral-common")
def test_the_recorded_ids_are_its_makers(folder: Path) -> None:
    from mistral_common.protocol.instruct.messages import SystemMessage, UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    own: Any = MistralTokenizer.from_file(str(folder / "tekken.json"))
    messages = [SystemMessage(content="Be brief."), UserMessage(content=QUESTION)]
    assert own.encode_chat_completion(ChatCompletionRequest(messages=messages)).tokens == IDS
