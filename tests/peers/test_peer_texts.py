from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny
from core_lightning.answers import extract_answer
from core_lightning.peers import GenerationSettings, Peer
from core_lightning.peers.sampling.stop_strings import StopStrings
from core_lightning.protocol.prompts import Filled, Prompt, PromptSettings, Turn
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
    prompt = Prompt((Turn("user", Filled(("chat",))),), Filled(("plain text",)))
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
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path)
    peer = make_peer(tmp_path)
    ids = tokenizer("<bos>[THINK]8?[/THINK][IMG]7<unk><end>", add_special_tokens=False)["input_ids"]
    assert len(ids) == 9
    assert peer.texts.decode(ids, peer.config.generation) == "[THINK]8?[/THINK]7"
    assert extract_answer(peer.texts.decode(ids, peer.config.generation), "number") == "7"
    assert peer.encode_completion("[THINK]8?[/THINK]7") == [*ids[1:5], ids[6], ids[8]]


@pytest.mark.parametrize(
    ("written", "read", "answer"),
    [
        ("<|channel|>analysis<|message|>8?<|end|><|start|>it<|channel|>final<|message|>7<end>", "<think>8?</think>7", "7"),
        ("<|channel|>analysis<|message|>The answer is 8", "<think>The answer is 8", None),
        ("<|channel|>analysis<|message|>8?<|end|><|start|>it<|channel|>final", "<think>8?</think>", None),
        ("<|channel|>analysis<|message|>8?<|channel|>final<|message|>7", "<think>8?</think>7", "7"),
        ("7<end>", "7", "7"),
    ],
)
def test_what_is_thought_in_a_channel_is_no_answer(tmp_path: Path, written: str, read: str, answer: str | None) -> None:
    """As gpt-oss writes, whose cut-off thoughts would read as an answer."""
    tokenizer = AutoTokenizer.from_pretrained(tiny.save_llama(tmp_path))
    marks = ["<end>", "<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path)
    peer = make_peer(tmp_path)
    text = peer.texts.decode(tokenizer(written, add_special_tokens=False)["input_ids"], peer.config.generation)
    assert text == read
    assert extract_answer(text, "number") == answer
    ids = peer.encode_completion("<think>8?</think>It is 7.")
    assert tokenizer.decode(ids) == "<|channel|>final<|message|>It is 7.<end>"
    assert peer.texts.decode(ids, peer.config.generation) == "It is 7."
    assert peer.encode_completion("<think>never said") == []


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


def test_a_block_that_the_prompt_opens_and_nobody_closes_has_no_answer(tmp_path: Path) -> None:
    folder = tiny.save_llama(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template += "<think>\n"
    tokenizer.save_pretrained(folder)
    peer = make_peer(folder)
    prompt = peer.encode(PromptSettings().render(PROBLEM))
    (completion,) = peer.sample([prompt], [[1]])[0]
    assert completion.text == "<think>" + peer.texts.decode(completion.token_ids, peer.config.generation)
    inside = "3 and 4, so the answer is 7"
    assert extract_answer(inside, "number") == "7"
    assert extract_answer(completion.text.partition(">")[0] + ">" + inside, "number") is None


def test_an_end_mark_written_out_in_a_foreign_completion_is_text(chatting: Peer) -> None:
    ids = chatting.encode_completion("7<end> and<eos> 8<|user|>")
    assert [i for i in ids if i in chatting.stop_ids] == ids[-1:]
    assert chatting.tokenizer.decode(ids) == "7<end> and<eos> 8<|user|><end>"


@pytest.mark.parametrize(
    ("stop", "text", "kept"),
    [
        (["\n"], "3 + 4 = 7\nQuestion: 1 + 1", "3 + 4 = 7"),
        (["\n", "="], "3 + 4 = 7\n", "3 + 4 "),
        ([], "3 + 4 = 7\nQuestion: 1 + 1", "3 + 4 = 7"),  # its own plain prompts stop there
        (["\n"], "\n7", ""),
    ],
)
def test_a_foreign_completion_ends_at_the_peers_own_stop(
    neox_folder: Path, stop: list[str], text: str, kept: str
) -> None:
    peer = make_peer(neox_folder, generation=GenerationSettings(stop=stop))
    peer.end_at(PromptSettings().next_question)
    assert peer.in_own_words(text, []) == kept
    ending = stop[0] if stop else peer.tokenizer.eos_token
    assert peer.tokenizer.decode(peer.encode_completion(text)) == (kept + ending if kept else "")


def test_a_plain_prompt_stops_where_the_peer_asks_the_next_question(neox_folder: Path, llama_folder: Path) -> None:
    mark = PromptSettings().next_question
    assert mark == "\nQuestion:"
    peer = make_peer(neox_folder)
    peer.end_at(mark)
    tokens = [ids[0] for ids in peer.tokenizer(list("= 7\n\nQuestion: 1"), add_special_tokens=False)["input_ids"]]
    assert peer.texts.decode(tokens, peer.config.generation) == "= 7\n"
    stop = StopStrings(peer.generation.stop, peer.tokenizer)
    assert stop.met(tokens[:-2])
    assert not stop.met(tokens[:-3])
    assert peer.generation.stop == [mark]
    ended = make_peer(neox_folder, generation=GenerationSettings(stop=["\n"]))
    ended.end_at(mark)  # which its own stop is met before
    assert ended.generation.stop == ["\n"]
    chatting = make_peer(llama_folder)
    chatting.end_at(mark)
    assert chatting.generation.stop == []


@given(
    st.lists(st.text(alphabet="ab:é\n ", min_size=1, max_size=3), min_size=1, max_size=3),
    st.text(alphabet="ab:é\n ", min_size=1, max_size=12),
)
def test_a_stop_string_is_met_by_the_token_that_completes_it(plain: Peer, stop: list[str], text: str) -> None:
    """Against a search of the whole text after every token."""
    ids = list(plain.tokenizer(text, add_special_tokens=False)["input_ids"])
    texts = [plain.tokenizer.decode(ids[:end], skip_special_tokens=False) for end in range(len(ids) + 1)]
    first = next((end for end, t in enumerate(texts) if any(s in t for s in stop)), None)
    look = StopStrings(stop, plain.tokenizer)
    assert next((end for end in range(1, len(ids) + 1) if look.met(ids[:end])), None) == first
