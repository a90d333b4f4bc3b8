"""The chat forms of ten families of models, shortened, each with a character tokenizer that has its marks as tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

import tiny

TURNS = "{% for m in messages %}"


@dataclass(frozen=True)
class Family:
    template: str
    specials: tuple[str, ...]
    words: tuple[str, ...] = ()
    """Added tokens that are not marked as special."""
    system: bool = True
    kwargs: dict[str, Any] = field(default_factory=dict)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        tokenizer = tiny.character_tokenizer(reverse=False, chat=False)
        tokenizer.add_tokens([AddedToken(s, special=True, normalized=False) for s in self.specials])
        tokenizer.add_tokens([AddedToken(w, special=False, normalized=False) for w in self.words])
        tokenizer.chat_template = self.template
        return tokenizer

    @property
    def marks(self) -> tuple[str, ...]:
        return (*self.specials, *self.words, "<eos>", "<bos>", "<pad>")


FAMILIES = {
    "chatml": Family(
        TURNS + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
        ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        ("<think>", "</think>"),
        kwargs={"enable_thinking": False},
    ),
    "llama3": Family(
        "{{ '<bos>' }}{% if not date_string is defined %}{% if strftime_now is defined %}"
        "{% set date_string = strftime_now('%d %b %Y') %}{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
        "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}"
        "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
        "<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date_string }}\n\n{{ system }}<|eot_id|>"
        + TURNS
        + "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "gemma": Family(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + TURNS
        + "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        ("<start_of_turn>", "<end_of_turn>"),
        system=False,
    ),
    "mistral": Family(
        "{{ bos_token }}"
        + TURNS
        + "{% if m['role'] == 'user' %}[INST]{% elif m['role'] == 'system' %}[SYSTEM_PROMPT]{% endif %}"
        "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}"
        "{% if m['role'] == 'user' %}[/INST]{% elif m['role'] == 'system' %}[/SYSTEM_PROMPT]{% else %}<eos>{% endif %}{% endfor %}",
        ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]"),
    ),
    "phi4": Family(
        TURNS + "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    ),
    "smollm2": Family(
        TURNS
        + "{% if loop.first and messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n"
        "{% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ("<|im_start|>", "<|im_end|>", "<repo_name>", "<|endoftext|>"),
    ),
    "harmony": Family(
        "<|start|>system<|message|>Current date: {{ strftime_now('%Y-%m-%d') }}\n\n"
        "Reasoning: {{ reasoning_effort if reasoning_effort is defined else 'medium' }}<|end|>"
        + TURNS
        + "{% if m.role == 'system' %}<|start|>developer<|message|># Instructions\n\n{{ m.content }}<|end|>"
        "{% elif m.role == 'user' %}<|start|>user<|message|>{{ m.content }}<|end|>"
        "{% else %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"),
        kwargs={"reasoning_effort": "low"},
    ),
    "deepseek": Family(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
        "{% elif m['role'] == 'user' %}<｜User｜>{{ m['content'] }}"
        "{% else %}{% set c = m['content'] %}{% if '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}"
        "<｜Assistant｜>{{ c }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}",
        ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
        ("<think>", "</think>"),
    ),
    "glm": Family(
        "[gMASK]<sop>" + TURNS + "{% if m.role == 'user' %}<|user|>\n{{ m.content }}"
        "{{ '/nothink' if (enable_thinking is defined and not enable_thinking and not m.content.endswith('/nothink')) else '' }}"
        "{% elif m.role == 'system' %}<|system|>\n{{ m.content }}{% else %}<|assistant|>\n<think></think>\n{{ m.content }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
        ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"),
        ("<think>", "</think>"),
        kwargs={"enable_thinking": False},
    ),
    "granite": Family(
        TURNS + "<|start_of_role|>{{ m['role'] }}<|end_of_role|>{{ m['content'] }}<|end_of_text|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}",
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    ),
}
