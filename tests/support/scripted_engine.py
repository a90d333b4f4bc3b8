"""An engine that says what a script tells it, in the place of a sampler: what a random model draws, no test may hang on.

All else of a peer is real: its tokenizer, its network, its scores, its adapter. The scripts here read the question out of
the prompt and draw from the trace's seed, so that a text depends on neither the model nor the machine.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch

from core_lightning.nano.tasks import solve
from core_lightning.peers import GenerationSettings
from core_lightning.peers.sampling.engine import Engine, Rig, SampledTokens

#: ``(prompt, seed of the trace) -> completion``
Script = Callable[[str, int], str]


class ScriptedEngine(Engine):
    """Cuts texts as a sampler would: at a stop string, with an end token, or at the limit."""

    def __init__(self, rig: Rig, script: Script) -> None:
        self.rig = rig
        self.script = script

    def sample(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings
    ) -> list[list[SampledTokens]]:
        said = [[self._say(p, seed, settings) for seed in group] for p, group in zip(prompts, seeds, strict=True)]
        rows = [(list(p), ids) for p, group in zip(prompts, said, strict=True) for ids, _ in group]
        scores = iter(self._logprobs(rows, settings.temperature) if rows else [])
        return [[SampledTokens(ids, next(scores), stopped) for ids, stopped in group] for group in said]

    def _say(self, prompt: Sequence[int], seed: int, settings: GenerationSettings) -> tuple[list[int], bool]:
        tokenizer = self.rig.tokenizer
        text = self.script(tokenizer.decode(prompt), seed) + (settings.stop[0] if settings.stop else "")
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        ids += [] if settings.stop else [min(self.rig.stop_ids)]
        return ids[: settings.max_new_tokens], len(ids) <= settings.max_new_tokens

    @torch.no_grad()
    def _logprobs(self, rows: Sequence[tuple[list[int], list[int]]], temperature: float) -> list[list[float]]:
        device = next(self.rig.network.parameters()).device
        pad = torch.nn.utils.rnn.pad_sequence
        ids = pad([torch.tensor(p + c, device=device) for p, c in rows], batch_first=True)
        mask = pad([torch.ones(len(p + c), dtype=torch.int64, device=device) for p, c in rows], batch_first=True)
        logits = self.rig.network(input_ids=ids, attention_mask=mask, use_cache=False).logits
        logp = (logits[:, :-1].float() / temperature).log_softmax(-1).gather(2, ids[:, 1:, None])[:, :, 0]
        return [row[len(p) - 1 :][: len(c)].tolist() for row, (p, c) in zip(logp, rows, strict=True)]


@contextmanager
def saying(script: Script) -> Iterator[None]:
    """Peers made in this context say what a script tells them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("core_lightning.peers.sampling.sampler.make_engine", lambda name, rig: ScriptedEngine(rig, script))
        # What is said is not drawn from the model, and a script knows the questions of its data only.
        patch.setattr("core_lightning.peers.self_test.self_test", lambda peer: [])
        yield


def sums(prompt: str, seed: int) -> str:
    """Two to eleven letters and digits for "What is 3 + 1 ?"; two texts of five hold the answer's last digit."""
    draw = random.Random(seed)
    gold = str((int(re.findall(r"What is (\d+) \+ 1", prompt)[-1]) + 1) % 10)
    wrong = [c for c in "0123456789" if c != gold]
    text = [draw.choice("abcdefghij") for _ in range(draw.randrange(1, 6))]
    text += [draw.choice(wrong) for _ in range(draw.randrange(6))]
    if draw.random() < 0.4:
        text[draw.randrange(len(text))] = gold
    return "".join(text)


def nano(prompt: str, seed: int) -> str:
    """The right derivation of a nano question, and a wrong answer every second time."""
    steps, answer = solve(re.findall(r"Q:(\S+)", prompt)[-1])
    return " ".join([*steps, "####", answer if random.Random(seed).random() < 0.5 else f"{answer}1"])
