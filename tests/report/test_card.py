"""The card beside an adapter: what it says, and that no text from outside can leave its place."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from core_lightning.report.card import Base, Card, Merge, data_facts, render_card
from core_lightning.report.markdown import code, fenced, inline, table
from core_lightning.report.tables import Table
from core_lightning.report.visible import visible

HOSTILE = [
    "``` \n# owned\n<script>alert(1)</script>",
    "`````\n````````\n</pre>",
    "a | b\n| --- |\n| x |",
    "---\nlicense: mit\n---",
    "[x](javascript:alert(1)) ![y](http://evil/p.png) <http://evil> www.evil.example",
    "{{ question }} {% raw %} {# #}",
    "&lt;b&gt; \\ * _ ~~x~~ <!-- ",
    "\x1b[2J\u202e",
]


def card(text: str = "quiet", **changes: Any) -> Card:
    settings: dict[str, Any] = {
        "peer": text,
        "run": text,
        "others": [text],
        "base": Base(hub="org/base", commit="0123456789abcdef", weights="packed in 4 bits (nf4)"),
        "rank": 20,
        "steps": 60,
        "chats": True,
        "prompt": text,
        "sampling": {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 64, "stop": [text]},
        "facts": {text: text},
        "data": {"Source": text, "Hub id": text},
        "results": Table(text, ["", text], [[text, "12.0 [10.0, 14.0]"]], text),
    }
    return Card(**settings | changes)


def head_of(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n", 2)[1])


def parsed(text: str) -> list[Any]:
    """Tokens of a Markdown document behind its head, inner ones included."""
    _, _, body = text.split("---\n", 2)
    assert isinstance(head_of(text), dict)
    outer = MarkdownIt("commonmark").enable("table").parse(body)
    return [inner for token in outer for inner in [token, *(token.children or [])]]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    def shape(tokens: list[Any]) -> list[str]:
        # Neither the number of lines of a text nor its escapes are structure.
        return [t.type for t in tokens if t.type not in ("text", "softbreak", "text_special", "html_entity")]

    tokens = parsed(render_card(card(text)))
    assert shape(tokens) == shape(parsed(render_card(card())))
    assert not [t for t in tokens if t.type in ("html_inline", "html_block", "image")]
    assert [t.attrs["href"] for t in tokens if t.type == "link_open"] == ["https://arxiv.org/abs/2601.21600"]
    assert visible(text) + "\n" in [t.content for t in tokens if t.type == "fence"]
    assert "datasets" not in head_of(render_card(card(text)))  # no hub id


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_comes_back_as_it_is(text: str) -> None:
    one_line = " ".join(visible(text).split())
    (paragraph,) = [t for t in MarkdownIt("commonmark").parse(f"x {inline(text)} x") if t.type == "inline"]
    assert "".join(t.content for t in paragraph.children or []) == f"x {one_line} x"
    (paragraph,) = [t for t in MarkdownIt("commonmark").parse(f"x {code(text)}") if t.type == "inline"]
    assert (paragraph.children or [])[1].content == (one_line or " ")
    (block,) = MarkdownIt("commonmark").parse(fenced(text))
    assert block.content == visible(text).replace("\r", "\n") + "\n"
    cells = MarkdownIt("commonmark").enable("table").parse(table(["a", "b"], [[text, "z"]]))
    assert [t.type for t in cells].count("td_open") == 2


def test_it_names_the_base_as_the_hub_does() -> None:
    shown = render_card(card())
    head = head_of(shown)
    assert (head["base_model"], head["base_model_relation"], head["library_name"]) == ("org/base", "adapter", "peft")
    assert "revision='0123456789abcdef'" in shown.replace('"', "'")
    served = "python -m vllm.entrypoints.openai.api_server --model org/base --revision 0123456789abcdef"
    assert f"{served} --enable-lora --max-lora-rank 32" in shown  # 20 needs 32
    assert "pretrained=org/base,revision=0123456789abcdef,peft=." in shown
    assert "--apply_chat_template" in shown
    assert "12.0 \\[10.0, 14.0\\]" in shown
    code_blocks = [t.content for t in parsed(shown) if t.type == "fence"]
    compile(code_blocks[0], "card", "exec")


def test_a_base_that_is_not_on_the_hub() -> None:
    packed = render_card(card(base=Base(name="embedded/x", origin="org/x")))
    assert head_of(packed)["base_model"] == "org/x"
    assert 'resolve("embedded/x")' in packed
    assert "export --run quiet --peer quiet --merge" in packed
    local = render_card(card(base=Base(folder="mine"), results=None))
    assert "base_model" not in head_of(local)
    assert "`mine`" in local
    assert "It was not evaluated." in local


def test_the_card_of_a_merged_model() -> None:
    shown = render_card(card(), Merge("bfloat16", 321, 0.0123, 0.5, 0.05))
    head = head_of(shown)
    assert (head["base_model_relation"], head["library_name"]) == ("finetune", "transformers")
    assert "321 tokens" in shown
    assert "0.012 nats" in shown
    assert "peft" not in shown.lower().replace("core_lightning", "")


def test_it_comes_back_from_its_data() -> None:
    assert Card.from_json(card().to_json()) == card()
    assert Card.from_json(card(results=None).to_json()) == card(results=None)
    with pytest.raises(ValueError, match=r"card\.json is not one of this release"):
        Card.from_json('{"peer": "a"}')


def test_of_the_data_no_path_and_no_id_is_told() -> None:
    manifest = {
        "source": "JsonLines",
        "arguments": {"path": "/home/somebody/secret/problems.jsonl"},
        "splits": {"train": {"size": 3, "sha256": "ab" * 32, "ids": ["what is 1 + 1?"]}},
        "chance": 0.25,
    }
    told = data_facts(manifest)
    assert told["File"] == "problems.jsonl"
    assert told["A blind guess is right in"] == "25.0 %"
    assert "somebody" not in str(told)
    assert "1 + 1" not in str(told)
