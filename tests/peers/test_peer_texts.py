from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

import tiny
from core_lightning.answers import extract_answer
from core_lightning.peers import GenerationSettings, Peer
from core_lightning.protocol.prompts import Prompt, PromptSettings
from core_lightning.records import Problem
from naive import make_peer

PROBLEM = Problem("p", "3 + 4", "7")


@pytest.fixture(scope="module")
def chatting(llama_folder: Path) -> Peer:
    return make_peer(llama_folder)


@pytest.fixture(scope="module")
def plain(neox_folder: Path) -> Peer:
    return make_peer(neox_folder)


def test_a_chat_goes_through_the_template_once(chatting: Peer) -> None:
    prompt = PromptSettings(system="Be brief.").render(PROBLEM)
    ids = chatting.encode(prompt)
    text = chatting.tokenizer.decode(ids)
    assert text.startswith("<|system|>Be brief.<end><|user|>3 + 4\n\n")
    assert text.endswith("<end><|assistant|>")
    assert chatting.tokenizer.bos_token_id not in ids


def test_a_peer_without_template_reads_the_text(plain: Peer) -> None:
    prompt = PromptSettings().render(PROBLEM)
    assert plain.tokenizer.decode(plain.encode(prompt)) == prompt.text
    assert not plain.chats


def test_the_style_can_be_chosen(llama_folder: Path) -> None:
    peer = make_peer(llama_folder, prompt_style="plain")
    prompt = Prompt(({"role": "user", "content": "chat"},), "plain text")
    assert peer.tokenizer.decode(peer.encode(prompt)) == "plain text"


@pytest.mark.parametrize(("stop", "ending"), [([], "<end>"), (["\n", "Q"], "\n")])
def test_somebody_elses_completion_ends_as_this_peer_ends(llama_folder: Path, stop: list[str], ending: str) -> None:
    peer = make_peer(llama_folder, generation=GenerationSettings(stop=stop))
    ids = peer.encode_completion("3 + 4 = 7")
    assert peer.tokenizer.decode(ids) == "3 + 4 = 7" + ending
    assert peer.tokenizer.bos_token_id not in ids


def test_special_tokens_are_no_text_unless_they_mark_a_think_block(tmp_path: Path) -> None:
    """As Ministral's do; the completion then goes through the tokenizer of the same family unharmed."""
    tokenizer = AutoTokenizer.from_pretrained(tiny.save_llama(tmp_path))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end>", "[THINK]", "[/THINK]", "[IMG]"]})
    tokenizer.save_pretrained(tmp_path)
    peer = make_peer(tmp_path)
    ids = tokenizer("<bos>[THINK]8?[/THINK][IMG]7<unk><end>", add_special_tokens=False)["input_ids"]
    assert len(ids) == 9
    assert peer._text(ids) == "[THINK]8?[/THINK]7"
    assert extract_answer(peer._text(ids), "number") == "7"
    assert peer.encode_completion("[THINK]8?[/THINK]7") == [*ids[1:5], ids[6], ids[8]]


def test_a_plain_peer_ends_with_its_end_token(plain: Peer) -> None:
    assert plain.encode_completion("7")[-1] == plain.tokenizer.eos_token_id == 2


@given(st.text(alphabet="abc 123\n", max_size=30), st.integers(0, 40))
def test_a_cut_is_the_longest_beginning(neox_text_peer: Peer, text: str, tokens: int) -> None:
    cut = neox_text_peer.cut(text, tokens)
    assert cut == text[:tokens]  # one character is one token here


@pytest.fixture(scope="module")
def neox_text_peer(plain: Peer) -> Peer:
    return plain


def test_room_is_what_the_context_or_the_setting_leaves(llama_folder: Path) -> None:
    def room(new: int, prompt: int) -> int:
        return make_peer(
            llama_folder, generation=GenerationSettings(max_new_tokens=new, max_prompt_tokens=prompt)
        ).room()

    assert room(100, 1536) == 412  # of a context of 512
    assert room(100, 50) == 50
