"""What a nano pair can do before any RL: Pass@1 by task, cold and with a hint, Team Pass@2, problems nobody solves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from core_lightning.nano.tasks import TASKS, make_problems, prompt, solve

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load(folder: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model (float32, eval mode) and the tokenizer of a peer's folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    own = {"trust_remote_code": False, "local_files_only": True}
    return AutoModelForCausalLM.from_pretrained(folder, **own).eval(), AutoTokenizer.from_pretrained(folder, **own)


@torch.no_grad()
def sample(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], n: int = 1, greedy: bool = False
) -> list[list[str]]:
    """``n`` completions of every prompt, at temperature 1 unless greedy."""
    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True, return_token_type_ids=False)
    choice = {"do_sample": False} if greedy else {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    output = model.generate(**inputs, **choice, max_new_tokens=64, num_return_sequences=n)
    texts = tokenizer.batch_decode(output[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    return [texts[i : i + n] for i in range(0, len(texts), n)]


def count_correct(folder: Path, size: int = 400, n: int = 8, hinted: bool = False, greedy: bool = False) -> list[int]:
    """Correct completions among ``n`` for each of the ``size`` test problems, with the cold or the hinted prompt.

    The hint is the gold derivation without its answer. A correct completion ends in ``#### answer``.
    """
    problems = make_problems("test", size)
    prompts = [prompt(p.question, " ".join(solve(p.question)[0]) if hinted else None) for p in problems]
    samples = sample(*load(folder), prompts, n, greedy)
    return [sum(s.endswith(f"#### {p.answer}") for s in texts) for p, texts in zip(problems, samples, strict=True)]


def report(folders: Mapping[str, Path], size: int = 400, n: int = 8) -> str:
    """The table in the package docstring, percent."""
    cold = {name: count_correct(folder, size, n) for name, folder in folders.items()}
    hinted = {name: count_correct(folder, size, n, hinted=True) for name, folder in folders.items()}
    # Problems come task after task in turn, so every fifth one is of the same task.
    rows = [(task, slice(start, None, len(TASKS))) for start, task in enumerate(TASKS)] + [("all", slice(None))]
    names = list(folders)
    columns = [f"{name} {what}" for what in ("cold", "hinted") for name in names] + ["team@2", "nobody"]
    lines = ["".join(f"{column:>10}" for column in ["task", *columns])]
    for task, part in rows:
        rates = [100 * sum(c[part]) / len(c[part]) / n for counts in (cold, hinted) for c in counts.values()]
        wrong = list(zip(*(counts[part] for counts in cold.values()), strict=True))
        missed = [prod(comb(n - c, 2) / comb(n, 2) for c in problem) for problem in wrong]
        rates += [100 - 100 * sum(missed) / len(missed), 100 * sum(not any(c) for c in wrong) / len(wrong)]
        lines.append(f"{task:>10}" + "".join(f"{rate:10.1f}" for rate in rates))
    return "\n".join(lines)
