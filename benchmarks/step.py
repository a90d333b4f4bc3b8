"""A whole CORE step against TRL's GRPO on each model, and against a loop that handles one sequence at a time.

    python -m benchmarks.step [--quick] [--weights float32] [--problems 4] [--trl-python benchmarks/.trl/bin/python]

4 problems, K 2 cold and K' 1 rescue traces for every peer and problem, so 12 rollouts of each model, all of 48 new tokens,
temperature 0.7, top-p 0.9, LoRA r 16, GRPO with its KL term. All sides hold dense weights in the same type, by default the
one the processor is good at; this package samples from float16 copies of them.

- step: this package, both rounds, verifier, embeddings, rewards, reference, loss, optimizer, logging
- TRL: one model after the other, 12 rollouts each, a reward that costs nothing; without an environment for it (see the
  README beside this file) it is left out
- one at a time: for every rollout a ``generate``, a reference pass, a forward pass with full logits and a backward pass
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
from core_lightning.peers import GenerationSettings, Peer
from core_lightning.peers.loading import compute_dtype
from core_lightning.peers.sources import resolve
from core_lightning.protocol.records import Problem

TRL = Path(__file__).parent / ".trl" / "bin" / "python"
ROLLOUTS = ROUNDS.k + ROUNDS.k_rescue
BETA = 0.04


def one_at_a_time(peer: Peer, batch: Sequence[Problem], new_tokens: int) -> None:
    """A policy-gradient step as it is first written down; only the hints, the rewards and the check are left out."""
    parameters = list(peer.adapter_parameters().values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-5)
    for problem in batch:
        prompt = peer.encode(PROMPTS.render(problem))
        for advantage in torch.linspace(-1, 1, ROLLOUTS):
            ids = generate(peer, prompt, 1, new_tokens)

            def logprobs(ids: torch.Tensor = ids, prompt: list[int] = prompt) -> torch.Tensor:
                logits = peer.network(input_ids=ids, use_cache=False).logits[:, len(prompt) - 1 : -1]
                return naive_logprobs(logits, ids[:, len(prompt) :])

            with torch.no_grad(), peer.policy("reference"):
                reference = logprobs()
            with peer.policy():
                own = logprobs()
            gap = reference - own
            loss = (-advantage * (own - own.detach()).exp() + BETA * (gap.exp() - gap - 1)).mean()
            (loss / (len(batch) * ROLLOUTS)).backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad()


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
    parser_.add_argument("--trl-python", type=Path, default=TRL, help="interpreter of an environment with TRL")
    options = parse(parser_, args)
    pair = models(options.quick)
    generation = GenerationSettings(temperature=0.7, top_p=0.9, max_new_tokens=options.new_tokens)
    module = build_team(pair, generation, options.quick, weights(f"{options.weights}-half"))
    workers = []
    if options.trl_python.exists():
        sizes = (options.problems, options.new_tokens, options.rounds + 1, options.threads)
        workers = [TrlWorker(options.trl_python, model, options.weights, *sizes) for model in pair.values()]
    else:
        print(f"no {options.trl_python}: TRL is left out")

    def reference(batch: Sequence[Problem]) -> float:
        peers = module.team.peers.values()
        return math.fsum(seconds(partial(one_at_a_time, peer, batch, options.new_tokens)) for peer in peers)

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
    shares: dict[str, list[float]] = {}
    for metrics, total in zip(turns.metrics, own, strict=True):
        parts: dict[str, float] = {}
        for key, value in metrics.items():
            if key.startswith("time/"):
                phase = key.removeprefix("time/").split("/")[0]
                parts[phase] = parts.get(phase, 0.0) + value
        for phase, value in parts.items():
            shares.setdefault(phase, []).append(100 * value / total)
    for phase, values in shares.items():
        report.add("where the step went", phase, values, "%")
    overhead = [a + b for a, b in zip(shares["verify"], shares["reward"], strict=True)]
    report.add("where the step went", "verifier, embeddings and rewards", overhead, "%", at_most=5)
    report.finish()


if __name__ == "__main__":
    main()
