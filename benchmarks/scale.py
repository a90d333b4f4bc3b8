"""What a step costs with more problems, with more peers, and with peers on devices of their own.

    python -m benchmarks.scale [--quick] [--problems 4 8 16 32] [--peers 1 2 3] [--budget 4096]

- problems: seconds for each problem of a step, and the peak of resident memory during it, models included. Every
  measurement has a process of its own, the sizes in turn. The budget bounds the token positions of a sampling batch and of
  a micro-batch of the loss.
- peers: seconds of a step with 1, 2 and 3 copies of the pair's first model.
- devices: the pair samples in turn and at the same time. On a machine without two accelerators both peers are on the CPU,
  with one thread each: that shows the threads work and give the same traces, not what two devices gain.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from benchmarks.measure import Report, isolated, parse, parser, ratios
from benchmarks.teams import WEIGHTS, FixedLengthModule, Turns, build_team, models, problems, train, weights
from core_lightning.peers import GenerationSettings


@dataclass(frozen=True)
class Setting:
    """A team and the size of its step, as plain data for another process."""

    peers: dict[str, str]
    problems: int
    new_tokens: int
    budget: int
    weights: str
    quick: bool
    threads: int

    def team(self, **options: Any) -> FixedLengthModule:
        """The module."""
        generation = GenerationSettings(
            temperature=0.7, top_p=0.9, max_new_tokens=self.new_tokens, max_batch_tokens=self.budget
        )
        peer_options = {"score_batch_tokens": self.budget, **weights(self.weights)}
        return build_team(self.peers, generation, self.quick, peer_options, **options)


def step(setting: Setting) -> tuple[float, float]:
    """Seconds and peak MB of one step."""
    torch.set_num_threads(setting.threads)
    turns = Turns()
    train(setting.team(), setting.problems, 1, turns, warm_up=1)
    return turns.seconds["step"][0], turns.peaks[0]


def measure_steps(report: Report, settings: dict[str, Setting]) -> dict[str, list[tuple[float, float]]]:
    """Steps of several sizes in turn, each in a fresh process."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in settings}
    for _ in range(report.options.rounds):
        for name, setting in settings.items():
            taken[name].append(isolated(step, setting))
    return taken


def measure_problems(report: Report, base: Setting, sizes: Sequence[int]) -> None:
    """Cost of a problem by problems a step."""
    taken = measure_steps(report, {f"{n} problems a step": replace(base, problems=n) for n in sizes})
    first = [s / sizes[0] for s, _ in next(iter(taken.values()))]
    for size, (name, values) in zip(sizes, taken.items(), strict=True):
        each = [s / size for s, _ in values]
        report.add(name, "time of a problem", each, "s")
        if size != sizes[0]:
            report.add(name, f"relative to {sizes[0]} a step", ratios(each, first), at_most=1.0)
        report.add(name, "peak memory", [peak for _, peak in values], "MB")


def measure_peers(report: Report, base: Setting, counts: Sequence[int]) -> None:
    """Cost of a step by number of peers, all of one model."""
    model = next(iter(base.peers.values()))
    teams = {f"{n} peer{'s' * (n > 1)}": replace(base, peers={f"p{i}": model for i in range(n)}) for n in counts}
    taken = measure_steps(report, teams)
    first = [s / counts[0] for s, _ in next(iter(taken.values()))]
    for count, (name, values) in zip(counts, taken.items(), strict=True):
        times = [s for s, _ in values]
        report.add(name, f"time of a step of {base.problems} problems", times, "s")
        report.add(
            name, "time of a peer, relative to one alone", ratios([s / count for s in times], first), at_most=1.1
        )


def measure_devices(report: Report, base: Setting) -> None:
    """The pair samples one after the other and at the same time."""
    several = torch.cuda.device_count() > 1
    devices = [f"cuda:{i}" for i in range(2)] if several else ["cpu", "cpu"]
    if not several:
        torch.set_num_threads(1)
    module = base.team()
    for (name, config), device in zip(module.peer_configs.items(), devices, strict=True):
        module.peer_configs[name] = replace(config, device=device)
    module.configure_model()
    batch = problems(base.problems)
    texts: dict[str, list[str]] = {}
    ways: tuple[Literal["never", "always"], ...] = ("never", "always")
    taken: dict[str, list[float]] = {way: [] for way in ways}
    overlaps = []
    for turn in range(report.options.rounds + 1):
        for parallel in ways:
            module.team.parallel = parallel
            module.team.watch.take()
            start = time.perf_counter()
            groups = module.team.cold(batch, 2, ("devices",))
            wall = time.perf_counter() - start
            texts[parallel] = [trace.text for group in groups for trace in group]
            if turn:
                taken[parallel].append(wall)
                busy = sum(s for phase, s in module.team.watch.take().items() if phase.startswith("sample/"))
                overlaps += [busy / wall] if parallel == "always" else []
    torch.set_num_threads(base.threads)
    case = f"two peers on {' and '.join(devices)}" + ("" if several else ", one thread each")
    report.add(case, "in turn", taken["never"], "s")
    report.add(case, "at the same time", taken["always"], "s")
    report.add(case, "peers sampling at once, mean", overlaps)
    report.add(case, "same traces (1: yes)", [float(texts["never"] == texts["always"])], at_least=1)


def main(args: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser_ = parser(__doc__, rounds=3)
    parser_.add_argument("--problems", nargs="+", type=int, default=[4, 8, 16, 32], help="problems a step")
    parser_.add_argument("--peers", nargs="+", type=int, default=[1, 2, 3], help="sizes of the team")
    parser_.add_argument("--budget", type=int, default=4096, help="token positions of a batch")
    parser_.add_argument("--new-tokens", type=int, default=48)
    parser_.add_argument("--weights", default="float32-half", choices=WEIGHTS)
    options = parse(parser_, args)
    report = Report("scale", options)
    base = Setting(
        models(options.quick), 4, options.new_tokens, options.budget, options.weights, options.quick, options.threads
    )
    measure_problems(report, base, options.problems)
    measure_peers(report, base, options.peers)
    measure_devices(report, base)
    report.finish()


if __name__ == "__main__":
    main()
