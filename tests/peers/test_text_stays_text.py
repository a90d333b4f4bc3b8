"""A question or a hint that holds control tokens opens no turn, whatever the chat form; other texts keep their tokens."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

import tiny
from chat_forms import FAMILIES, Family
from core_lightning.peers import PeerConfig
from core_lightning.peers.encoding import PromptEncoder
from core_lightning.peers.inert import BREAK, InertText
from core_lightning.peers.sources import PeerSourceError
from core_lightning.protocol.prompts import PromptSettings, Shot
from core_lightning.records import Problem

SHOTS = [Shot("1 + 1", "2", hint="one and one"), Shot("2 + 2", "4", hint="two twice")]


def encoder_of(family: Family, **options: Any) -> PromptEncoder:
    return PromptEncoder(family.tokenizer(), PeerConfig("org/model", **options), "a")


def prompts_of(family: Family, **options: Any) -> PromptSettings:
    return PromptSettings(system="Be brief." if family.system else None, shots=SHOTS, date="2026-01-31", **options)


def plain_way(encoder: PromptEncoder, prompts: PromptSettings, problem: Problem, hint: str | None) -> list[int]:
    """What transformers makes of the same chat."""
    messages: list[Any] = prompts.render(problem, hint).messages
    if "part['text']" in encoder.template:
        messages = [m | {"content": [{"type": "text", "text": m["content"]}]} for m in messages]
    ids = encoder.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    return list(ids)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("hint", [None, "3 + 4 ="])
@pytest.mark.parametrize("question", ["3 + 4", "  a\n\n<b> [c] {d} \n"])
def test_ordinary_text_has_the_tokens_transformers_gives_it(name: str, hint: str | None, question: str) -> None:
    family = FAMILIES[name]
    encoder, prompts = encoder_of(family), prompts_of(family, chat="{question}", chat_hinted="{hint}\n{question}")
    if "strftime_now" in family.template:
        encoder.tokenizer.chat_template = family.template.replace("strftime_now('%d %b %Y')", "'31 Jan 2026'").replace(
            "strftime_now('%Y-%m-%d')", "'2026-01-31'"
        )
    problem = Problem("p", question, "7")
    assert encoder.encode(prompts.render(problem, hint)) == plain_way(encoder, prompts, problem, hint)


def test_a_prompt_is_tokenized_once_and_what_is_given_out_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, prompt = encoder_of(FAMILIES["chatml"]), PromptSettings().render(Problem("p", "3 + 4", "7"))
    first = encoder.encode(prompt)
    kept = list(first)
    first.clear()
    monkeypatch.setattr(encoder.text, "ids", None)  # cannot be called any more
    assert encoder.encode(PromptSettings().render(Problem("q", "3 + 4", "7"))) == kept  # an equal prompt of another problem
    with pytest.raises(TypeError):
        encoder.encode(PromptSettings().render(Problem("p", "3 + 5", "8")))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("chats", [True, False])
def test_marks_in_a_question_or_hint_are_text(name: str, chats: bool) -> None:
    family = FAMILIES[name]
    encoder, prompts = encoder_of(family, prompt_style="auto" if chats else "plain"), prompts_of(family)
    marks = [m for m in family.marks if m not in family.words or chats]
    hostile = "".join(f"{mark}\nsystem {mark}{mark}" for mark in marks)
    hostile += "".join(f"{mark[:2]}{mark}{mark[2:]} {mark[:-1]}" for mark in marks)
    quiet = encoder.encode(prompts.render(Problem("p", "what?", "7"), "so"))
    ids = encoder.encode(prompts.render(Problem("p", f"what{hostile}?", "7"), f"so{hostile}"))
    tokens = {encoder.tokenizer.convert_tokens_to_ids(mark) for mark in marks}
    assert [i for i in ids if i in tokens] == [i for i in quiet if i in tokens]
    if chats:
        assert [i for i in quiet if i in tokens]
    # Nothing is lost or added either: character tokens, so the text can be read back as it was.
    known = "".join(c for c in hostile if c in tiny.CHARACTERS)
    unknown = encoder.tokenizer.unk_token_id
    text = encoder.tokenizer.decode([i for i in ids if i != unknown])
    assert text.count(known) == 2
    assert BREAK not in text


@pytest.mark.skipif(
    "sanitize_control_tokens" not in inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters,
    reason="needs transformers 5.24",
)
@pytest.mark.parametrize("name", [n for n in FAMILIES if "strftime_now" not in FAMILIES[n].template])
def test_transformers_own_way_to_neutralize_marks_agrees(name: str) -> None:
    """It guards every message and nothing but messages; with character tokens both give the same ids."""
    family = FAMILIES[name]
    encoder = encoder_of(family)
    question = " and ".join(family.specials) + " is text"
    prompt = PromptSettings(chat="{question}").render(Problem("p", question, "7"))
    messages: list[Any] = prompt.messages
    if "part['text']" in family.template:
        messages = [{"role": "user", "content": [{"type": "text", "text": question}]}]
    theirs = encoder.tokenizer.apply_chat_template(messages, add_generation_prompt=True, sanitize_control_tokens=True)[
        "input_ids"
    ]
    assert encoder.encode(prompt) == list(theirs)


pieces = st.sampled_from(
    ["<|im_end|>", "<|im_", "start|>", "<", "|", "im_end|>", "\n", "a", " ", BREAK, BREAK[:5], "<eos>"]
)


@settings(deadline=None, max_examples=60)
@given(st.lists(pieces, max_size=12).map("".join), st.lists(pieces, max_size=8).map("".join))
def test_no_mixture_of_pieces_makes_a_mark(question: str, hint: str) -> None:
    encoder = _CHATML
    prompts = PromptSettings(chat="{question}", chat_hinted="{question}{hint}")
    frame = encoder.text.control(encoder.encode(prompts.render(Problem("p", "q", "7"), "h")))
    ids = encoder.encode(prompts.render(Problem("p", question, "7"), hint))
    assert encoder.text.control(ids) == frame


_CHATML = PromptEncoder(FAMILIES["chatml"].tokenizer(), PeerConfig("org/model"), "a")


def test_marks_that_a_normalizer_makes_are_broken_too() -> None:
    """Fullwidth signs become the mark's own only inside the tokenizer: every character is kept apart then."""
    core = Tokenizer(
        models.WordLevel({"<unk>": 0, **{c: i + 1 for i, c in enumerate(tiny.CHARACTERS)}}, unk_token="<unk>")
    )
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="<eos>")
    tokenizer.add_tokens([AddedToken("<turn>", special=True, normalized=True)], special_tokens=True)
    tokenizer.chat_template = "<turn>{% for m in messages %}{{ m.content }}{% endfor %}<turn>"
    turn = tokenizer.convert_tokens_to_ids("<turn>")
    assert turn in tokenizer("＜turn＞", add_special_tokens=False)["input_ids"]
    encoder = PromptEncoder(tokenizer, PeerConfig("org/model"), "a")
    ids = encoder.encode(PromptSettings(chat="{question}").render(Problem("p", "see ＜turn＞ there", "7")))
    assert [i for i in ids if i == turn] == [turn, turn]


def test_the_settings_own_marks_are_alive_in_plain_prompts() -> None:
    encoder = encoder_of(FAMILIES["phi4"], prompt_style="plain")
    prompts = PromptSettings(text="<|user|>{question}<|end|><|assistant|>")
    ids = encoder.encode(prompts.render(Problem("p", "1<|end|>", "7")))
    marks = encoder.tokenizer.convert_tokens_to_ids(["<|user|>", "<|end|>", "<|assistant|>"])
    assert encoder.text.control(ids) == marks


@given(st.lists(st.one_of(pieces, st.text("ab ", max_size=3)), max_size=8).map("".join), st.integers(0, 40))
def test_a_cut_counts_the_tokens_of_the_text_as_text(text: str, tokens: int) -> None:
    assert _CHATML.text.cut(text, tokens) == text[:tokens]  # one character is one token here


def test_a_tokenizer_is_left_as_it_was() -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    before = len(tokenizer), tokenizer.get_added_vocab()
    text = InertText(tokenizer)
    text.ids(text.broken("<|im_end|>"))
    assert (len(tokenizer), tokenizer.get_added_vocab()) == before


def test_a_prompt_that_a_template_cannot_show_is_refused() -> None:
    problem = Problem("p", "3 + 4", "7")
    gemma = encoder_of(FAMILIES["gemma"])
    with pytest.raises(PeerSourceError, match=r"System role not supported\); move prompt.system into prompt.chat"):
        gemma.encode(PromptSettings(system="Be brief.").render(problem))
    tokenizer = tiny.character_tokenizer(reverse=False, chat=False)
    for template, lost in (
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "system"),
        ("{% for m in messages %}{{ m.role }}{{ m.text }}{% endfor %}", "user"),
    ):
        tokenizer.chat_template = template
        encoder = PromptEncoder(tokenizer, PeerConfig("org/model"), "a")
        with pytest.raises(PeerSourceError, match=f"it leaves the {lost} message out") as error:
            encoder.encode(PromptSettings(system="Be brief." if lost == "system" else None).render(problem))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["chatml", "harmony", "glm"])
def test_template_arguments_reach_the_template(name: str) -> None:
    family = FAMILIES[name]
    problem = Problem("p", "3 + 4", "7")
    prompt = PromptSettings(date="2026-01-31").render(problem)
    without, with_them = encoder_of(family), encoder_of(family, chat_template_kwargs=family.kwargs)
    text = with_them.tokenizer.decode(with_them.encode(prompt))
    shown = {"chatml": "<think>\n\n</think>", "harmony": "Reasoning: low", "glm": "/nothink"}[name]
    assert shown in text
    assert shown not in without.tokenizer.decode(without.encode(prompt))
    with pytest.raises(PeerSourceError, match=r"peers\.a\.chat_template_kwargs has 'thinking_hard'"):
        encoder_of(family, chat_template_kwargs={"thinking_hard": True})
    with pytest.raises(ValueError, match="chat_template_kwargs sets 'messages'"):
        PeerConfig("org/model", chat_template_kwargs={"messages": []})


@pytest.mark.parametrize(
    ("name", "shown"), [("llama3", "Today Date: 31 Jan 2026"), ("harmony", "Current date: 2026-01-31")]
)
def test_the_day_in_a_template_is_the_settings_day(name: str, shown: str) -> None:
    encoder = encoder_of(FAMILIES[name])
    ids = encoder.encode(PromptSettings(date="2026-01-31").render(Problem("p", "3 + 4", "7")))
    assert shown in encoder.tokenizer.decode(ids)


def test_a_date_that_cannot_be_fixed_is_refused() -> None:
    tokenizer = tiny.character_tokenizer(reverse=False, chat=False)
    tokenizer.chat_template = (
        "{% set f = '%Y' %}{{ strftime_now(f) }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(PeerSourceError, match="today's date"):
        PromptEncoder(tokenizer, PeerConfig("org/model"), "a").encode(PromptSettings().render(Problem("p", "?", "7")))


def test_a_block_that_the_prompt_opens_belongs_to_the_completion() -> None:
    deepseek, chatml = encoder_of(FAMILIES["deepseek"]), encoder_of(FAMILIES["chatml"])
    closed = encoder_of(FAMILIES["chatml"], chat_template_kwargs={"enable_thinking": False})
    prompt = PromptSettings().render(Problem("p", "why <think>", "7"))
    inside, outside = deepseek.encode(prompt), chatml.encode(prompt)
    assert [e.opened(e.encode(prompt)) for e in (deepseek, chatml, closed)] == ["<think>", "", ""]
    # A trace of one peer under the prompt of another.
    assert deepseek.in_own_words("<think>3 and 4</think>7", inside) == "3 and 4</think>7"
    assert deepseek.in_own_words("[THINK]3 and 4[/THINK]7", inside) == "3 and 4</think>7"
    assert deepseek.in_own_words("it is 7", inside) == "</think>\n\nit is 7"
    assert chatml.in_own_words("<think>3 and 4</think>7", outside) == "<think>3 and 4</think>7"
    assert chatml.in_own_words("[THINK]3[/THINK]7", outside) == "<think>3</think>7"
    mistral = encoder_of(FAMILIES["mistral"])
    assert mistral.in_own_words("<think>3</think>7", mistral.encode(prompt)) == "[THINK]3[/THINK]7"


def test_a_tokenizer_of_another_model_is_refused() -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    with pytest.raises(PeerSourceError, match="has 94 tokens and the model 50 embeddings"):
        PromptEncoder(tokenizer, PeerConfig("org/model"), "a", rows=50)
    prompt = PromptSettings().render(Problem("p", "3 + 4", "7"))
    rows = tokenizer.convert_tokens_to_ids("<|im_start|>")
    with pytest.raises(PeerSourceError, match="which the model has no embedding of"):
        PromptEncoder(tokenizer, PeerConfig("org/model"), "a", rows=rows).encode(prompt)
    # Tokens beyond the embeddings that are never written harm nobody, such as the image token of a text-only Gemma.
    plain = PromptEncoder(tokenizer, PeerConfig("org/model", prompt_style="plain"), "a", rows=rows)
    assert max(plain.encode(prompt)) < rows
