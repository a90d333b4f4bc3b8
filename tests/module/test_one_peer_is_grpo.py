"""With one peer a step is plain GRPO: the weights it leaves are those of implementations that share no code with it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from core_lightning import SoloReasoningModule
from core_lightning.objectives import CISPO, DAPO, GRPO, GSPO, SAPO, DrGRPO, Objective
from core_lightning.peers import Peer
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.records import Trace
from core_lightning.rewards import WeightedTerm
from core_lightning.training.settings import ScheduleSettings
from counting_terms import Count
from naive import Scored, make_peer, naive_logprobs, wake_adapter
from runs import ACCELERATOR, Diary, build, fit, peer

pytestmark = pytest.mark.skipif(ACCELERATOR != "cpu", reason="the formula is written out on a processor")
RATE, CLIP, BETA, MAX_NORM = 1.0, 0.05, 0.1, 0.5


def big_sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=RATE)


def one_batch(folder: Path, tmp_path: Path, objective: Objective, **options: Any) -> tuple[Diary, list[Trace]]:
    """One batch of three problems with four traces each; the adapter starts awake, so that policy and reference differ."""

    class Awake(Diary):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            wake_adapter(pl_module.peers["only"])
            super().on_train_start(trainer, pl_module)

    options = {
        "rewards": {"count": WeightedTerm(Count("aeiou0123456789"))},
        "rounds": RoundSettings(k=4, k_rescue=0),
        "optimizer": big_sgd,
        "schedule": ScheduleSettings("constant", 0.0),
    } | options
    module = build({"only": peer(folder)}, SoloReasoningModule, objective=objective, **options)
    diary = Awake()
    fit(module, tmp_path, diary, n=3, batch_size=3, limit_train_batches=1)
    return diary, [t for g in module.record.groups for t in g]


def at_the_start(folder: Path, diary: Diary) -> Peer:
    """A second copy of the peer with the weights of before the step."""
    other = make_peer(folder, "only", lora=peer(folder).lora, generation=peer(folder).generation, wake=False)
    with torch.no_grad():
        for name, weight in other.adapter_parameters().items():
            weight.copy_(diary.start[f"only.{name}"])
    return other


@torch.no_grad()
def descend(mine: Peer) -> float:
    """A step against a gradient cut to the largest norm; gives the norm that it had."""
    parameters = mine.adapter_parameters().values()
    norm = sum(float(p.grad.double().square().sum()) for p in parameters) ** 0.5
    for p in parameters:
        p.sub_(RATE * p.grad * min(1.0, MAX_NORM / norm))
    return norm


def assert_moved_alike(diary: Diary, mine: Peer) -> None:
    for name, weight in mine.adapter_parameters().items():
        start = diary.start[f"only.{name}"]
        torch.testing.assert_close(
            diary.weights[0][f"only.{name}"] - start, weight.detach() - start, rtol=2e-3, atol=2e-5
        )
    assert max(float((diary.weights[0][n] - w).abs().max()) for n, w in diary.start.items()) > 0.01


def test_two_updates_are_those_of_the_formula(llama_folder: Path, tmp_path: Path) -> None:
    """Full logits, one trace at a time, float64: sampling aside, everything that makes a step is written out again."""
    objective = GRPO(beta=BETA, clip_low=CLIP, clip_high=CLIP)
    diary, traces = one_batch(llama_folder, tmp_path, objective, updates_per_batch=2, max_grad_norm=MAX_NORM)
    by_prompt: dict[tuple[int, ...], list[float]] = defaultdict(list)
    rewards = [float(sum(c in "aeiou0123456789" for c in t.text)) for t in traces]
    for trace, reward in zip(traces, rewards, strict=True):
        by_prompt[tuple(trace.prompt_ids)].append(reward)
    advantages = []
    for trace, reward in zip(traces, rewards, strict=True):
        group = by_prompt[tuple(trace.prompt_ids)]
        deviation = statistics.pstdev(group)
        advantages.append((reward - statistics.fmean(group)) / max(deviation, 1e-4))
    assert len(by_prompt) == 3
    assert min(advantages) < 0 < max(advantages)

    mine = at_the_start(llama_folder, diary)
    scored = [Scored(t.prompt_ids, t.token_ids) for t in traces]
    with torch.no_grad():
        old = [naive_logprobs(mine, s, 1.0)[0] for s in scored]
        with mine.network.disable_adapter():
            bare = [mine.network(input_ids=torch.tensor([s.prompt_ids + s.token_ids])).logits[0] for s in scored]
        reference = [
            logits.double()[len(s.prompt_ids) - 1 : -1]
            .log_softmax(-1)
            .gather(1, torch.tensor(s.token_ids)[:, None])[:, 0]
            for s, logits in zip(scored, bare, strict=True)
        ]
    clipped = 0
    for _ in range(2):
        mine.zero_grad()
        loss = torch.zeros((), dtype=torch.float64)
        for s, advantage, was, ref in zip(scored, advantages, old, reference, strict=True):
            logp = naive_logprobs(mine, s, 1.0)[0]
            value = torch.zeros((), dtype=torch.float64)
            for t in range(len(logp)):
                ratio = torch.exp(logp[t] - was[t])
                held = min(max(float(ratio.detach()), 1 - CLIP), 1 + CLIP)
                pessimistic = held * advantage < float(ratio.detach()) * advantage
                clipped += pessimistic
                value = value + (held if pessimistic else ratio) * advantage
                value = value - BETA * (torch.exp(ref[t] - logp[t]) - (ref[t] - logp[t]) - 1)
            loss = loss - value / len(logp) / len(traces)
        loss.backward()
        assert descend(mine) > MAX_NORM
    assert clipped > 5
    assert_moved_alike(diary, mine)


def full_logprobs(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, keep: int, **_: Any
) -> tuple[torch.Tensor, torch.Tensor, None]:
    """In the place of TRL's own, which wants a model whose forward pass it has replaced."""
    logits = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
    logp = logits[:, -keep - 1 : -1].log_softmax(-1)
    return logp.gather(2, ids[:, -keep:, None])[:, :, 0], -(logp.exp() * logp).sum(-1), None


def trl_loss(mine: Peer, traces: list[Trace], loss_type: str, old: list[list[float]], **settings: Any) -> float:
    """Loss of ``GRPOTrainer._compute_loss``, called without a trainer around it; the gradients are left at the peer."""
    trl = pytest.importorskip("trl", reason="TRL is not a dependency: install it beside the project to run this")
    pad, tokenizer = torch.nn.utils.rnn.pad_sequence, mine.tokenizer

    def rows(values: list[list[Any]], side: str, fill: float, dtype: torch.dtype = torch.int64) -> torch.Tensor:
        tensors = [torch.tensor(v, dtype=dtype) for v in values]
        return pad(tensors, batch_first=True, padding_value=fill, padding_side=side)

    prompts, completions = [t.prompt_ids for t in traces], [t.token_ids for t in traces]
    inputs = {
        "prompt_ids": rows(prompts, "left", tokenizer.pad_token_id),
        "prompt_mask": rows([[1] * len(p) for p in prompts], "left", 0),
        "completion_ids": rows(completions, "right", tokenizer.pad_token_id),
        "completion_mask": rows([[1] * len(c) for c in completions], "right", 0),
        "advantages": torch.tensor([t.advantage for t in traces]),
        "old_per_token_logps": rows(old, "right", 0.0, torch.float32),
        "num_items_in_batch": torch.tensor(float(sum(map(len, completions)))),
    }
    accelerator = SimpleNamespace(
        num_processes=1,
        is_main_process=False,
        gather=lambda x: x,
        reduce=lambda x, reduction: x,
        unwrap_model=lambda model: model,
    )
    args = trl.GRPOConfig(output_dir="unused", report_to=[], use_cpu=True, bf16=False)
    stub = SimpleNamespace(
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        importance_sampling_level="token", beta=0.0, loss_type=loss_type, epsilon_low=0.2, epsilon_high=0.2,
        args=args, model=mine.network, current_gradient_accumulation_steps=1, max_completion_length=10,
        accelerator=accelerator, _entropy_bonus_enabled=False, _get_per_token_logps_and_entropies=full_logprobs,
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
    )  # fmt: skip
    vars(stub).update(settings)
    args.steps_per_generation = 1
    args.use_bias_correction_kl = False  # by default TRL multiplies the KL term by the ratio, which GRPO does not
    ids, mask = (torch.cat([inputs[f"prompt_{n}"], inputs[f"completion_{n}"]], 1) for n in ("ids", "mask"))
    with torch.no_grad(), mine.network.disable_adapter():
        inputs["ref_per_token_logps"] = full_logprobs(mine.network, ids, mask, inputs["completion_ids"].shape[1])[0]
    mine.zero_grad()
    loss = trl.GRPOTrainer._compute_loss(stub, mine.network, inputs)
    loss.backward()
    return float(loss.detach())


@pytest.mark.parametrize(
    ("objective", "loss_type", "settings"),
    [
        (GRPO(beta=0.04), "grpo", {"beta": 0.04}),
        (GSPO(beta=0.0, clip_low=0.05, clip_high=0.05), "grpo",
         {"importance_sampling_level": "sequence", "epsilon_low": 0.05, "epsilon_high": 0.05}),
        (SAPO(beta=0.0), "sapo", {}),
        (DrGRPO(max_tokens=10), "dr_grpo", {}),
        (DAPO(), "dapo", {"epsilon_high": 0.28}),
        (CISPO(clip_high=0.1), "cispo", {"epsilon_high": 1.1}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Objective) else "",
)  # fmt: skip
def test_a_step_follows_the_gradient_of_trl(
    llama_folder: Path, tmp_path: Path, objective: Objective, loss_type: str, settings: dict[str, Any]
) -> None:
    pytest.importorskip("trl", reason="TRL is not a dependency: install it beside the project to run this")
    diary, traces = one_batch(llama_folder, tmp_path, objective, updates_per_batch=2, max_grad_norm=MAX_NORM)
    mine = at_the_start(llama_folder, diary)
    with torch.no_grad():
        old = [naive_logprobs(mine, Scored(t.prompt_ids, t.token_ids), 1.0)[0].tolist() for t in traces]
    for _ in range(2):
        loss = trl_loss(mine, traces, loss_type, old, **settings)
        descend(mine)
    assert diary.metrics[0]["train/only/loss"] == pytest.approx(loss, rel=2e-3, abs=1e-5)  # of the second update
    assert diary.metrics[0]["train/only/ratio"] != pytest.approx(1.0, abs=1e-3)
    assert_moved_alike(diary, mine)
