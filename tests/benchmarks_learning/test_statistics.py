"""Figures and intervals of the learning experiment against slow, plain ones."""

import itertools
import math
import random

import pytest
import torch

from benchmarks.learning.pairs import PAIRS
from benchmarks.learning.report import CONTROL, DEFAULT, write_report
from benchmarks.learning.statistics import Results, bootstrap, columns
from benchmarks.learning.sweep import append, read


def held_out(rng, problems=12, n=4, lift=0.0):
    counts = {p: [min(n, int(rng.random() * (n + 1) + lift)) for _ in range(problems)] for p in "ab"}
    plain = dict.fromkeys("ab", 0.1)
    return {"samples": n, "sources": ["x"] * problems, "correct": counts, "vote": [0.5] * problems} | dict.fromkeys(
        ("tokens", "truncated", "kl", "entropy"), plain
    )


def line(arm, pretraining_seed, seed, lift=0.0, lr=1e-3):
    rng = random.Random(f"{arm}{pretraining_seed}{seed}")
    training = {} if arm == "base" else {
        "a/pass_at_1": [0.1, 0.2], "b/pass_at_1": [0.3, 0.4], "rescues": [1.0, 2.0], "hints": [4.0, 4.0],
        "hint_leakage": [None, 0.5], "team_pass_at_2": [0.5, 0.6],
    }  # fmt: skip
    budget = {"completions": 10, "problems": 3, "optimizer_steps": 2, "training_cpu_seconds": 1.5}
    return {
        "pair": "nano", "arm": arm, "pretraining_seed": pretraining_seed, "seed": seed, "lr": lr,
        "budget": budget, "training": training, "held_out": held_out(rng, lift=lift),
    }  # fmt: skip


def test_figures_of_a_problem_are_what_drawing_every_pair_of_samples_gives():
    one = held_out(random.Random(1))
    found = columns(one)
    for i, (a, b) in enumerate(zip(*one["correct"].values(), strict=True)):
        draws = {p: list(itertools.combinations([1] * c + [0] * (4 - c), 2)) for p, c in (("a", a), ("b", b))}
        joint = [(any(x), any(y)) for x in draws["a"] for y in draws["b"]]
        share = {
            "team_pass_at_2": [x or y for x, y in joint], "both_solve": [x and y for x, y in joint],
            "only_first": [x and not y for x, y in joint], "only_second": [y and not x for x, y in joint],
            "neither": [not (x or y) for x, y in joint],
            "pass_at_2": [(x + y) / 2 for x, y in joint],
        }  # fmt: skip
        for name, values in share.items():
            assert float(found[name][i]) == pytest.approx(sum(values) / len(values))
        assert float(found["pass_at_1"][i]) == pytest.approx((a + b) / 8)
        assert float(found["all_fail"][i]) == (a == b == 0)


def test_the_bootstrap_resamples_seeds_and_problems():
    torch.manual_seed(0)
    seeds, problems = torch.randn(5, 1, dtype=torch.float64), torch.randn(1, 30, dtype=torch.float64)
    scores = 3 + seeds + problems  # additive: the variance of the resampled mean is known
    estimate = bootstrap(scores, resamples=20_000)
    deviation = math.sqrt(float(seeds.var(correction=0)) / 5 + float(problems.var(correction=0)) / 30)
    assert estimate.value == pytest.approx(float(scores.mean()))
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * deviation, rel=0.05)


def test_the_t_interval_is_the_textbook_one():
    low, high = bootstrap(torch.tensor([[1.0], [2.0], [3.0], [6.0]], dtype=torch.float64)).student
    # mean 3, s = sqrt(14/3), t(3) = 3.182: 3 +- 3.437
    assert (low, high) == (pytest.approx(-0.437, abs=2e-3), pytest.approx(6.437, abs=2e-3))


def test_differences_are_paired_over_shared_seeds_and_rl_seeds_are_averaged_first():
    lines = [line(arm, p, s) for arm in ("solo", "both") for p in (0, 1) for s in (0, 1)]
    lines += [line("both", 7, 0), line("solo", 0, 0, lr=9.0)]  # no partner, and another learning rate
    results = Results(lines, lr=1e-3)
    found = results.difference("both", "solo", "pass_at_1")

    def mean(arm, p):
        own = [x for x in lines if (x["arm"], x["pretraining_seed"], x["lr"]) == (arm, p, 1e-3)]
        return sum(sum(c) / 48 for x in own for c in x["held_out"]["correct"].values()) / (2 * len(own))

    assert found.by_seed == pytest.approx([mean("both", p) - mean("solo", p) for p in (0, 1)])
    assert results.rescue_rate("both") == pytest.approx([0.25, 0.5])


def test_models_that_come_finished_are_paired_by_rl_seed():
    lines = [line(arm, 0, s) for arm in ("solo", "both") for s in (0, 1, 5)]
    found = Results(lines, lr=1e-3, unit="seed").difference("both", "solo", "pass_at_1")
    mean = [sum(sum(c) / 96 for c in x["held_out"]["correct"].values()) for x in lines]
    assert found.by_seed == pytest.approx([both - solo for solo, both in zip(mean[:3], mean[3:], strict=True)])
    assert PAIRS["nano"].unit == "pretraining_seed"
    assert {pair.unit for name, pair in PAIRS.items() if name != "nano"} == {"seed"}


def test_the_report_has_tables_and_figures(tmp_path):
    file, shared = tmp_path / "few.jsonl", PAIRS["nano"].lr
    arms = {"base": 0.0, "solo": 0.0, "both": 1.5}
    for arm, lift in arms.items():
        for seed in (0, 1, 2):
            append(file, line(arm, seed, 0, lift, shared))
    append(file, line("solo", 0, 0, lr=2 * shared))
    text = write_report(file).read_text()
    assert text.count("| both |") == 3
    assert "## Learning rates" in text
    assert "own traces" not in text  # nothing to compare with
    for name in ("differences", "training", "overlap"):
        assert (tmp_path / f"few_{name}.png").stat().st_size > 10_000


def test_the_report_compares_the_default_with_its_control(tmp_path):
    file = tmp_path / "few.jsonl"
    for arm, lift in {"solo": 0.0, CONTROL: 0.5, DEFAULT: 2.5}.items():
        for seed in (0, 1, 2):
            append(file, line(arm, seed, 0, lift, PAIRS["nano"].lr))
    section = write_report(file).read_text().split("own traces")[1].split("##")[0]
    results = Results(list(read(file)), PAIRS["nano"].lr, PAIRS["nano"].unit)
    gains = [results.estimate(arm, "pass_at_1").value for arm in (DEFAULT, CONTROL)]
    assert f"| {DEFAULT} | 3 | {100 * (gains[0] - gains[1]):+.1f} [" in section


def test_the_report_tells_the_problems_of_the_check_apart(tmp_path):
    file = tmp_path / "few.jsonl"
    for arm, lift, checked in (("solo", 0.0, 2.0), ("both", 2.0, 0.0)):
        for seed in (0, 1, 2):
            whole = line(arm, seed, 0, lift, PAIRS["nano"].lr)
            append(file, whole | {"check": line(arm, seed, 0, checked, PAIRS["nano"].lr)["held_out"]})
    before, after = write_report(file).read_text().split("(`--check`)")
    assert sum(row.startswith("| both | 3 | +") for row in before.splitlines()) == 1
    assert sum(row.startswith("| both | 3 | -") for row in after.splitlines()) == 1


def test_a_run_that_left_one_peer_below_its_own_base_is_told(tmp_path):
    def run(arm, a, b, pretraining_seed, seed=0):
        """Of 50 problems, four samples each: how many samples in all were right, by peer."""
        made = line(arm, pretraining_seed, seed, lr=PAIRS["nano"].lr)
        counts = {p: ([4] * (right // 4) + [right % 4] + [0] * 50)[:50] for p, right in (("a", a), ("b", b))}
        return made | {"held_out": made["held_out"] | {"correct": counts, "vote": [0] * 50, "sources": ["x"] * 50}}

    lines = [
        run("base", 100, 50, pretraining_seed=0),
        run("base", 50, 50, pretraining_seed=1),
        run("default", 97, 200, pretraining_seed=0),  # 1.5 points of Pass@1 below is let pass
        run("default", 95, 200, pretraining_seed=0, seed=1),  # 2.5 points below
        run("default", 50, 50, pretraining_seed=1),  # its base was worse
        run("default", 0, 0, pretraining_seed=2),  # nobody knows what it began with
    ]
    assert Results(lines, PAIRS["nano"].lr).ruined("default") == (1, 3)
    # Finished models begin alike with every seed: with 75 and 50 on average, which two runs fall below.
    assert Results(lines, PAIRS["nano"].lr, "seed").ruined("default") == (2, 4)
    for some in lines:
        append(tmp_path / "few.jsonl", some)
    append(tmp_path / "few.jsonl", run("solo", 100, 50, pretraining_seed=0))
    text = write_report(tmp_path / "few.jsonl").read_text()
    levels, beside = text.split("## Paired differences to solo")[0], text.split("## Paired differences to default")[1]
    assert next(row for row in levels.splitlines() if row.startswith("| default |")).endswith("| 1 of 3 |")
    assert next(row for row in beside.splitlines() if row.startswith("| solo | 1 |"))
