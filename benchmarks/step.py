"""A whole CORE step against TRL's GRPO on each model, and against a loop that handles one sequence at a time.

    python -m benchmarks.step [--quick] [--weights float32] [--problems 4] [--trl-python benchmarks/.trl/bin/python]

4 problems, K 2 cold and K' 1 rescue traces for every peer and problem, so 12 rollouts of each model, all of 48 new tokens,
temperature 0.7, top-p 0.9, LoRA r 16, GRPO with its KL term. All sides hold dense weights in the same type, by default the
one the processor is good at; this package samples from float16 copies of them. With ``--parallel-peers always`` its peers
work at the same time, each on its share of the cores.

- step: this package, both rounds, verifier, embeddings, rewards, reference, loss, optimizer, logging
- TRL: one model after the other, 12 rollouts each, a reward that costs nothing; without an environment for it (see the
  README beside this file) it is left out
- one at a time: transformers and PEFT as they come, for every rollout a ``generate``, a reference pass, a forward pass with
  full logits and a backward pass
"""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO

import torch

from benchmarks.decode import generate
from benchmarks.measure import Report, parse, parser, ratios, seconds
from benchmarks.scoring import naive_logprobs
from benchmarks.teams import (
    PROMPTS,
    ROUNDS,
    FixedLengthModule,
    Turns,
    build_team,
    models,
    problems,
    train,
    weights,
)
from core_lightning import PeerConfig
from core_lightning.peers import GenerationSettings, LoraSettings
from core_lightning.peers.loading import compute_dtype
from core_lightning.peers.sources import resolve
from core_lightning.records import Problem
from core_lightning.training.lanes import lanes

TRL = Path(__file__).parent / ".trl" / "bin" / "python"
ROLLOUTS = ROUNDS.k + ROUNDS.k_rescue
BETA = 0.04


class OneAtATime:
    """A policy-gradient step as it is first written down; only the hints, the rewards and the check are left out.

    Nothing of this package is in it: a stock model with a stock adapter.
    """

    def __init__(self, model: str, dtype: str, new_tokens: int) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = resolve(model).name_or_path
        lora = LoraSettings()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)),
            LoraConfig(r=lora.r, lora_alpha=lora.alpha, target_modules=list(lora.targets), task_type="CAUSAL_LM"),
        ).eval()  # no dropout anywhere, as in the other steps
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-5)
        self.new_tokens = new_tokens

    def step(self, batch: Sequence[Problem]) -> None:
        """All rollouts of all problems, then one update."""
        for problem in batch:
            prompt = self.tokenizer(PROMPTS.render(problem).text, return_tensors="pt").input_ids
            for advantage in torch.linspace(-1, 1, ROLLOUTS):
                ids = generate(self.model, prompt, self.new_tokens)
                with torch.no_grad(), self.model.disable_adapter():
                    reference = self._logprobs(ids)
                own = self._logprobs(ids)
                gap = reference - own
                loss = (-advantage * (own - own.detach()).exp() + BETA * (gap.exp() - gap - 1)).mean()
                (loss / (len(batch) * ROLLOUTS)).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _logprobs(self, ids: torch.Tensor) -> torch.Tensor:
        """Of the new tokens, ``float32 Tensor[1, new_tokens]``."""
        logits = self.model(input_ids=ids, use_cache=False).logits[:, -self.new_tokens - 1 : -1]
        return naive_logprobs(logits, ids[:, -self.new_tokens :])


class TrlWorker:
    """TRL with one model in a process of its own; it does nothing between two steps."""

    def __init__(self, python: Path, model: str, dtype: str, batch: int, new_tokens: int, steps: int, threads: int) -> None:
        prompt = PROMPTS.render(problems(1)[0]).text
        arguments = [resolve(model).name_or_path, dtype, prompt, *map(str, (batch, ROLLOUTS, new_tokens, steps))]
        self.process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("trl_step.py")), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )

    def step(self) -> float:
        """Seconds of one step."""
        _pipe(self.process.stdin).write("go\n")
        _pipe(self.process.stdin).flush()
        for line in _pipe(self.process.stdout):
            if line.startswith("seconds "):
                return float(line.split()[1])
        raise RuntimeError(f"TRL ended with code {self.process.wait()}; run benchmarks/trl_step.py by hand to see why")

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def main(args: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser_ = parser(__doc__, rounds=3)
    native = compute_dtype(PeerConfig("any"), torch.device("cpu"))  # emulated bfloat16 takes TRL several minutes a step
    parser_.add_argument("--weights", default=str(native).removeprefix("torch."), choices=("bfloat16", "float32"))
    parser_.add_argument("--problems", type=int, default=4)
    parser_.add_argument("--new-tokens", type=int, default=48)
    parser_.add_argument("--parallel-peers", default="auto", choices=("auto", "always"))
    parser_.add_argument("--trl-python", type=Path, default=TRL, help="interpreter of an environment with TRL")
    options = parse(parser_, args)
    pair = models(options.quick)
    generation = GenerationSettings(temperature=0.7, top_p=0.9, max_new_tokens=options.new_tokens)
    peer_options = weights(f"{options.weights}-half")
    module = build_team(pair, generation, options.quick, peer_options, parallel_peers=options.parallel_peers)
    plain = [OneAtATime(model, options.weights, options.new_tokens) for model in pair.values()]
    workers = []
    if options.trl_python.exists():
        sizes = (options.problems, options.new_tokens, options.rounds + 1, options.threads)
        workers = [TrlWorker(options.trl_python, model, options.weights, *sizes) for model in pair.values()]
    else:
        print(f"no {options.trl_python}: TRL is left out")

    def reference(batch: Sequence[Problem]) -> float:
        return math.fsum(seconds(partial(model.step, batch)) for model in plain)

    def trl(batch: Sequence[Problem]) -> float:
        return math.fsum(worker.step() for worker in workers)

    turns = Turns({"one at a time": reference} | ({"TRL, one model after the other": trl} if workers else {}))
    try:
        train(module, options.problems, options.rounds, turns)
    finally:
        for worker in workers:
            worker.close()
    write(Report("step", options), turns, module, options.problems * ROLLOUTS * len(pair))


def write(report: Report, turns: Turns, module: FixedLengthModule, rollouts: int) -> None:
    """Rates, how many times faster the step is, and what its parts take."""
    case = f"{report.options.problems} problems, {rollouts} rollouts of {report.options.new_tokens} tokens"
    for name, values in turns.seconds.items():
        report.add(case, name, values, "s")
        report.add(case, name, [rollouts / s for s in values], "rollouts/s")
    own = turns.seconds["step"]
    for name, times in (("TRL, one model after the other", 3), ("one at a time", 8)):
        if name in turns.seconds:
            report.add(case, f"times faster than {name}", ratios(turns.seconds[name], own), at_least=times)
    # Peers that work at the same time spend the step's seconds side by side; what is missing from 100 % they waited.
    at_once = len(lanes(list(module.team.peers.values()), module.parallel_peers))
    shares: dict[str, list[float]] = {}
    for metrics, total in zip(turns.metrics, own, strict=True):
        parts: dict[str, float] = {}
        for key, value in metrics.items():
            if key.startswith("time/"):
                phase, _, peer = key.removeprefix("time/").partition("/")
                parts[phase] = parts.get(phase, 0.0) + (value / at_once if peer else value)
        for phase, value in parts.items():
            shares.setdefault(phase, []).append(100 * value / total)
    for phase, values in shares.items():
        report.add("where the step went", phase, values, "%")
    overhead = [a + b for a, b in zip(shares["verify"], shares["reward"], strict=True)]
    report.add("where the step went", "verifier, embeddings and rewards", overhead, "%", at_most=5)
    report.finish()


if __name__ == "__main__":
    main()
