"""From examples to gradients: the cut into micro-batches must not matter, and frozen means frozen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core_lightning.objectives import CISPO, DAPO, GRPO, GSPO, SAPO, DrGRPO, Objective
from core_lightning.peers import Peer
from core_lightning.protocol.credit import CreditSettings, Example
from core_lightning.training.update import accumulate, freeze
from naive import Scored, make_peer, naive_logprobs, wake_adapter

OBJECTIVES: list[Objective] = [
    GRPO(), GRPO(entropy_coef=0.1), GSPO(), SAPO(), DrGRPO(max_tokens=8), DAPO(), CISPO(),
]  # fmt: skip


def examples() -> list[Example]:
    policy = [
        Example([5, 6, 7], [9, 10, 2], advantage=1.0),
        Example([5, 6, 7], [9, 11, 12, 13, 2], advantage=-0.5),
        Example([8] * 9, [14, 2], advantage=0.0),
        Example([7] * 20, [15, 16, 17], advantage=0.7, weight=0.8, rescue=True),
        Example([6, 6], [18] * 7, advantage=-1.2),
    ]
    imitated = [
        Example([5, 6, 7], [20, 21, 2], imitate=True, weight=0.8, rescue=True),
        Example([9] * 12, [22, 2], imitate=True, weight=0.8, rescue=True),
    ]
    return policy + imitated


def gradients(
    peer: Peer,
    objective: Objective,
    *,
    budget: int,
    need_old: bool = False,
    credit: CreditSettings | None = None,
    batch: list[Example] | None = None,
) -> tuple[dict[str, torch.Tensor], dict[str, float], int]:
    peer.config = dataclasses.replace(peer.config, score_batch_tokens=budget)
    peer.zero_grad()
    frozen = freeze(
        peer,
        examples() if batch is None else batch,
        need_old=need_old,
        need_reference=objective.beta > 0,
        need_entropy=objective.entropy_coef > 0,
    )
    if need_old:
        with torch.no_grad():  # as a first update would: the ratio leaves 1
            for weight in peer.adapter_parameters().values():
                weight.mul_(1.05)
    report = accumulate(peer, frozen, objective, credit or CreditSettings(), torch.Tensor.backward)
    grads = {n: p.grad.clone() for n, p in peer.adapter_parameters().items()}
    return grads, report, len(frozen.policy) + len(frozen.imitation)


@pytest.mark.parametrize("need_old", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__ + ("+entropy" * (o.entropy_coef > 0)))
def test_micro_batches_of_one_and_of_all_give_the_same_gradient(
    llama_folder: Path, objective: Objective, need_old: bool
) -> None:
    results = []
    peer = make_peer(llama_folder)
    start = {name: weight.detach().clone() for name, weight in peer.adapter_parameters().items()}
    for budget in (1, 60, 10_000):
        with torch.no_grad():
            for name, weight in peer.adapter_parameters().items():
                weight.copy_(start[name])
        results.append(gradients(peer, objective, budget=budget, need_old=need_old))
    parts = [r[2] for r in results]
    assert parts[0] > parts[1] > parts[2] == 2  # one of each kind
    for grads, report, _ in results[1:]:
        assert report == pytest.approx(results[0][1], rel=1e-3, abs=1e-5)
        for name, gradient in grads.items():
            torch.testing.assert_close(gradient, results[0][0][name], atol=2e-4, rtol=2e-3)
    assert any(g.abs().sum() > 0 for g in results[0][0].values())


def test_the_loss_is_the_formula_over_the_whole_step(neox_folder: Path) -> None:
    """GRPO at ratio 1 without KL, and the imitated traces' share, written out from naive log-probabilities."""
    peer = make_peer(neox_folder)
    grads, report, _ = gradients(peer, GRPO(beta=0.0), budget=40)
    policy = [e for e in examples() if not e.imitate]
    imitated = [e for e in examples() if e.imitate]
    peer.zero_grad()
    loss = torch.zeros((), dtype=torch.float64)
    for e in policy:
        logp = naive_logprobs(peer, Scored(e.prompt_ids, e.token_ids), 0.8)[0]
        ratio = (logp - logp.detach()).exp()
        loss = loss - e.weight * e.advantage * ratio.mean() / len(policy)
    for e in imitated:
        logp = naive_logprobs(peer, Scored(e.prompt_ids, e.token_ids), 0.8)[0]
        # A mean over the two, weighed by their share of the seven traces of the step.
        loss = loss - e.weight * logp.mean() / len(imitated) * (len(imitated) / (len(policy) + len(imitated)))
    loss.backward()
    assert report["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    for name, parameter in peer.adapter_parameters().items():
        torch.testing.assert_close(grads[name], parameter.grad, atol=2e-4, rtol=2e-3)


@pytest.mark.parametrize("family", ["llama", "neox", "gemma3", "gemma2", "gpt2", "phi3", "mistral3"])
def test_what_all_prompts_begin_with_is_read_once_with_its_gradient(
    tiny_folder: Callable[[str], Path], family: str
) -> None:
    beginning = [5 + i % 20 for i in range(25)]
    batch = [
        Example([*beginning, i], [9 + i, 10, 2 + i], advantage=1.0 - i, imitate=i == 3, rescue=i == 3) for i in range(5)
    ]
    peer = make_peer(tiny_folder(family))
    read: list[int] = []
    hook = peer.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    grads, _, parts = gradients(peer, GRPO(beta=0.0), budget=1, batch=batch)
    hook.remove()
    assert parts == 4  # the one without advantage is left out
    # The beginning, then for each part what is left of the prompt, and its completion but for the last token. Sliding
    # windows of eight have no room for it.
    assert read == ([26, 2] * 4 if family in ("gemma2", "gemma3") else [25, *[1, 2] * 4])
    peer.zero_grad()
    for e in batch:
        logp = naive_logprobs(peer, Scored(e.prompt_ids, e.token_ids), 0.8)[0].mean()
        # GRPO without KL at ratio 1 over the four policy traces; the imitated one as a fifth of all.
        (-logp / 5 if e.imitate else -logp * e.advantage / 4).backward()
    for name, parameter in peer.adapter_parameters().items():
        torch.testing.assert_close(grads[name], parameter.grad, atol=2e-4, rtol=2e-3)
    assert sum(g.abs().sum() for g in grads.values()) > 1e-2


def test_examples_without_advantage_are_skipped_but_counted(llama_folder: Path) -> None:
    peer = make_peer(llama_folder)
    frozen = freeze(peer, examples(), need_old=False, need_reference=False)
    assert sum(len(f.examples) for f in frozen.policy) == 4
    assert frozen.policy_totals.traces == 5
    assert frozen.policy_totals.tokens == sum(len(e.token_ids) for e in examples() if not e.imitate)
    assert all(f.old is None and f.reference is None for f in frozen.policy)
    kept = freeze(peer, examples(), need_old=False, need_reference=False, need_entropy=True)
    assert sum(len(f.examples) for f in kept.policy) == 5
    assert not freeze(peer, [Example([5], [6])], need_old=False, need_reference=False)


def test_the_entropy_bonus_reaches_examples_without_advantage(llama_folder: Path) -> None:
    quiet = [Example([5, 6, 7], [9, 10, 2]), Example([8] * 9, [14, 2])]
    grads, _, _ = gradients(make_peer(llama_folder), CISPO(entropy_coef=0.5), budget=1000, batch=quiet)
    assert any(g.abs().sum() > 1e-4 for g in grads.values())


def test_diagnostics_are_means_over_the_tokens_that_were_computed(llama_folder: Path) -> None:
    peer = make_peer(llama_folder)
    _, report, _ = gradients(peer, CISPO(), budget=1000)
    assert report["ratio"] == pytest.approx(1.0)
    computed = [e for e in examples() if not e.imitate and e.advantage]
    entropies = torch.cat([naive_logprobs(peer, Scored(e.prompt_ids, e.token_ids), 0.8)[1] for e in computed])
    assert report["entropy"] == pytest.approx(float(entropies.detach().mean()), rel=1e-4)


def test_frozen_logprobs_stay_when_the_peer_moves(llama_folder: Path) -> None:
    peer = make_peer(llama_folder)
    batch = [e for e in examples() if not e.imitate]
    frozen = freeze(peer, batch, need_old=True, need_reference=True)
    old = [f.old.clone() for f in frozen.policy]
    assert not any(f.old.requires_grad or f.reference.requires_grad for f in frozen.policy)
    with torch.no_grad():
        before = [peer.logprobs(f.examples)[0] for f in frozen.policy]
        reference = [peer.logprobs(f.examples, "reference")[0] for f in frozen.policy]
    wake_adapter(peer, 5)
    for part, was, logprobs, base in zip(frozen.policy, old, before, reference, strict=True):
        assert torch.equal(part.old, was)
        assert torch.equal(part.old, logprobs)
        assert torch.equal(part.reference, base)
        with torch.no_grad():
            assert (peer.logprobs(part.examples)[0] - part.old).abs().max() > 1e-3


def test_a_trace_of_a_cooler_round_is_scored_at_its_own_temperature(llama_folder: Path) -> None:
    peer = make_peer(llama_folder)
    batch = [
        Example([5, 6, 7], [9, 10, 2], advantage=1.0),
        Example([8] * 9, [14, 2], advantage=0.5, temperature=0.3),
        Example([7] * 4, [15, 16, 17], advantage=-0.7, temperature=0.3),
    ]
    plain, _, parts = gradients(peer, GRPO(beta=0.0), budget=1000, batch=batch)
    assert parts == 2  # a pass has one temperature
    peer.zero_grad()
    loss = torch.zeros((), dtype=torch.float64)
    for e in batch:
        logprobs = naive_logprobs(peer, Scored(e.prompt_ids, e.token_ids), e.temperature or 0.8)[0]
        loss = loss - e.advantage * (logprobs - logprobs.detach()).exp().mean() / 3
    loss.backward()
    for name, parameter in peer.adapter_parameters().items():
        torch.testing.assert_close(plain[name], parameter.grad, atol=2e-4, rtol=2e-3)


def test_reliance_is_what_the_hint_made_likelier(llama_folder: Path) -> None:
    peer = make_peer(llama_folder)
    sequence = Scored([5, 6, 7], [9, 10, 2])
    plain = naive_logprobs(peer, sequence, 0.8)[0].detach()
    hinted = (plain + torch.tensor([1.0, 0.5, 0.0])).tolist()
    batch = [
        Example(sequence.prompt_ids, sequence.token_ids, imitate=True, sampled_logprobs=hinted),
        Example([8] * 9, [14, 2], imitate=True),  # the teacher's trace was sampled by somebody else
    ]
    _, report, _ = gradients(peer, GRPO(), budget=1000, batch=batch)
    assert report["reliance"] == pytest.approx(0.5, abs=1e-4)
    _, report, _ = gradients(peer, GRPO(), budget=1000, batch=batch[1:])
    assert "reliance" not in report  # no rescue was imitated


def test_likelihoods_are_means_over_tokens_whatever_the_batch(llama_folder: Path) -> None:
    peer = make_peer(llama_folder)
    sequences = [Scored([5, 6, 7], [9, 10, 2]), Scored([8] * 9, [14, 2]), Scored([7] * 20, [15] * 7)]
    expected = [float(naive_logprobs(peer, s, 0.8)[0].mean().detach()) for s in sequences]
    for budget in (1, 10_000):
        peer.config = dataclasses.replace(peer.config, score_batch_tokens=budget)
        found = peer.likelihoods([s.prompt_ids for s in sequences], [s.token_ids for s in sequences])
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("bound", [0.5, 1.0, 4.0])
def test_an_imitated_rescue_is_weighed_by_the_bounded_ratio(llama_folder: Path, bound: float) -> None:
    peer = make_peer(llama_folder)
    sequences = [Scored([5, 6, 7], [9, 10, 2]), Scored([8] * 9, [14, 2])]
    scored = [naive_logprobs(peer, s, 0.8)[0] for s in sequences]
    # Sampled under the hinted prompt with these probabilities: ratios from far below to far above every bound.
    shift = [torch.tensor([1.0, -0.3, -2.0]), torch.tensor([0.2, 3.0])]
    batch = [
        Example(s.prompt_ids, s.token_ids, imitate=True, weight=0.8, sampled_logprobs=(p.detach() + d).tolist())
        for s, p, d in zip(sequences, scored, shift, strict=True)
    ]
    credit = CreditSettings(mode="cold", importance_bound=bound)
    grads, report, _ = gradients(peer, GRPO(), budget=1000, credit=credit, batch=batch)
    peer.zero_grad()
    weights = [torch.exp(-d.double()).clamp(max=bound) for d in shift]
    loss = torch.zeros((), dtype=torch.float64)
    for s, w in zip(sequences, weights, strict=True):
        loss = loss - 0.8 * (w * naive_logprobs(peer, s, 0.8)[0]).mean() / 2
    loss.backward()
    assert report["loss"] == pytest.approx(float(loss.detach()), rel=1e-3)
    assert report["importance"] == pytest.approx(float(torch.cat(weights).mean()), rel=1e-3)
    assert report["bounded"] == pytest.approx(float((torch.exp(-torch.cat(shift)) > bound).float().mean()))
    for name, parameter in peer.adapter_parameters().items():
        torch.testing.assert_close(grads[name], parameter.grad, atol=2e-4, rtol=2e-3)


@pytest.mark.parametrize("budget", [1, 1000])
def test_the_importance_bound_holds_beside_imitated_teachers(llama_folder: Path, budget: int) -> None:
    """A teacher's trace has no log-probabilities of this peer, in the same micro-batch or another: it is imitated as it is."""
    peer = make_peer(llama_folder)
    rescue, teacher = Scored([5, 6, 7], [9, 10, 2]), Scored([5, 6], [14, 12, 2])
    shift = torch.tensor([1.0, -0.3, 2.0])
    sampled = (naive_logprobs(peer, rescue, 0.8)[0].detach() + shift).tolist()
    batch = [
        Example(rescue.prompt_ids, rescue.token_ids, imitate=True, weight=0.8, sampled_logprobs=sampled),
        Example(teacher.prompt_ids, teacher.token_ids, imitate=True, weight=1.6),
    ]
    credit = CreditSettings(importance_bound=1.0)
    grads, report, _ = gradients(peer, GRPO(), budget=budget, credit=credit, batch=batch)
    peer.zero_grad()
    importance = torch.exp(-shift.double()).clamp(max=1.0)
    loss = -0.8 * (importance * naive_logprobs(peer, rescue, 0.8)[0]).mean() / 2
    loss = loss - 1.6 * naive_logprobs(peer, teacher, 0.8)[0].mean() / 2
    loss.backward()
    assert report["loss"] == pytest.approx(float(loss.detach()), rel=1e-3)
    assert report["reliance"] == pytest.approx(float(shift.mean()), abs=1e-4)  # of rescues alone
    for name, parameter in peer.adapter_parameters().items():
        torch.testing.assert_close(grads[name], parameter.grad, atol=2e-4, rtol=2e-3)
