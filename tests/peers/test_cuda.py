"""What a GPU computes against what a processor computes, from the same folders. Run by ``make test-gpu``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import pytest
import torch

from core_lightning.peers import GenerationSettings, LoraSettings, Peer
from core_lightning.peers.sampling import decoding, drawing
from core_lightning.peers.sampling.drawing import uniform
from core_lightning.protocol.rounds import trace_seed
from naive import Scored, make_peer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

KINDS = ["llama", "neox", "gemma3", "gemma2", "mistral3", "gpt2", "phi3"]
PROMPTS = [[10 + i % 9 for i in range(n)] for n in (3, 24, 17, 24)]
SEEDS = [[trace_seed("cuda", i, j) for j in range(3)] for i in range(len(PROMPTS))]
Traces = list[tuple[Scored, list[float]]]


def on_gpu(folder: Path, **options: object) -> Peer:
    return make_peer(folder, device="cuda", **options)


def traces(peer: Peer) -> Traces:
    """What a peer samples, and the log-probabilities it noted."""
    sampled = peer.sample(PROMPTS, SEEDS)
    return [
        (Scored(p, c.token_ids), c.logprobs or []) for p, group in zip(PROMPTS, sampled, strict=True) for c in group
    ]


def assert_same_traces(peer: Peer, ones: Traces, others: Traces) -> None:
    """The same tokens, unless a number fell so close to the border of two that rounding decides."""
    seeds = [seed for group in SEEDS for seed in group]
    for (one, logprobs), (other, other_logprobs), seed in zip(ones, others, seeds, strict=True):
        pairs = zip(one.token_ids, other.token_ids, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        assert logprobs[:same] == pytest.approx(other_logprobs[:same], abs=2e-4)
        if one.token_ids != other.token_ids:
            ids = torch.tensor([one.prompt_ids + one.token_ids[:same]], device=peer.device)
            with peer.policy(), torch.no_grad():
                logits = peer.network(input_ids=ids, use_cache=False).logits[0, -1].double().cpu()
            borders = torch.softmax(logits / peer.config.generation.temperature, -1).cumsum(-1)
            number = float(uniform(torch.tensor([seed]), same * (drawing._TRIALS + 1)))
            assert float((borders - number).abs().min()) < 1e-6


def noted_and_scored(peer: Peer) -> tuple[list[Scored], torch.Tensor, torch.Tensor]:
    """What a peer samples, the log-probabilities it noted, and the scores of the same tokens."""
    noted = traces(peer)
    scored = [s for s, _ in noted]
    return scored, torch.tensor([x for _, logprobs in noted for x in logprobs]), scores(peer, scored)


def scores(peer: Peer, scored: list[Scored]) -> torch.Tensor:
    with torch.no_grad():
        logprobs, _, mask = peer.logprobs(scored)
    return logprobs[mask].cpu()


def exact(peer: Peer, folder: Path, lora: LoraSettings) -> Peer:
    """The same peer in float32: its weights as they were rounded or unpacked, and no rounding after that."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    plain = on_gpu(folder, lora=lora)
    weights = dict(plain.network.named_parameters())
    packed = {f"{n}.weight": m for n, m in peer.network.named_modules() if isinstance(m, Linear4bit)}
    with torch.no_grad():
        for name, weight in peer.network.named_parameters():
            layer = packed.get(name)
            values = weight if layer is None else dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            weights[name].copy_(values)
    return plain


def rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


def gradients(peer: Peer, scored: list[Scored]) -> dict[str, torch.Tensor]:
    peer.zero_grad()
    logprobs, entropies, mask = peer.logprobs(scored, entropy_grad=True)
    (logprobs[mask].sum() + 0.3 * entropies[mask].sum()).backward()
    found = {n: p.grad.cpu() for n, p in peer.adapter_parameters().items() if p.grad is not None}
    assert len(found) == len(peer.adapter_parameters())
    return found


def assert_same_gradients(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], share: float = 1e-3) -> None:
    for name, gradient in one.items():
        assert (gradient - other[name]).norm() <= share * gradient.norm() + 1e-6, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_samples_and_scores_as_a_processor_does(tiny_folder: Callable[[str], Path], kind: str) -> None:
    here, there = make_peer(tiny_folder(kind)), on_gpu(tiny_folder(kind))
    assert all(p.device.type == "cuda" for p in there.network.parameters())
    ours, theirs = traces(here), traces(there)
    assert_same_traces(here, ours, theirs)
    scored, noted, found = noted_and_scored(there)
    assert float((noted - found).abs().max()) < 2e-4
    assert_same_gradients(gradients(here, scored), gradients(there, scored))


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("copies", ["own", "dense"])
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_steps_are_those_of_the_loop(
    tiny_folder: Callable[[str], Path], kind: str, copies: str, quantization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (kind, quantization) == ("gpt2", "nf4"):
        pytest.skip("its layers are no linear layers")
    monkeypatch.setattr(decoding, "_BLOCK", 16)  # recorded anew several times
    replays: list[int] = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: replays.append(1) or replay(graph))
    options = {
        "quantization": quantization,
        "sampling_weights": copies,
        "lora": LoraSettings(r=4, targets="all-linear"),
    }
    settings = GenerationSettings(max_new_tokens=40, temperature=1.5)
    recorded = traces(on_gpu(tiny_folder(kind), generation=settings, **options))
    # Windows of eight columns: their layers forget, and no recording fits.
    assert bool(replays) == (kind not in ("gemma3", "gemma2"))
    replays.clear()
    peer = on_gpu(tiny_folder(kind), generation=replace(settings, cuda_graphs=False), **options)
    plain = traces(peer)
    assert not replays
    assert_same_traces(peer, recorded, plain)


def test_a_model_that_looks_at_its_values_is_not_recorded(
    llama_folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = GenerationSettings(max_new_tokens=12)
    other = on_gpu(llama_folder, generation=replace(settings, cuda_graphs=False))
    plain = traces(other)
    peer = on_gpu(llama_folder, generation=settings)
    embedding = peer.network.get_input_embeddings()
    real = embedding.forward

    def looking(x: torch.Tensor) -> torch.Tensor:
        assert int(x.max()) >= 0  # as a mixture of experts counts its tokens
        return real(x)

    monkeypatch.setattr(embedding, "forward", looking)
    assert_same_traces(other, traces(peer), plain)
    assert "cannot be recorded and runs as it is" in caplog.text
    # Nothing is left of the attempt: random numbers, memory, other recordings.
    assert len(set(torch.rand(8, device="cuda").tolist())) == 8
    torch.cuda.synchronize()
    monkeypatch.undo()
    caplog.clear()
    assert_same_traces(other, traces(peer), plain)
    assert not caplog.text


@pytest.mark.parametrize("copies", ["dense", "half"])
@pytest.mark.parametrize("kind", ["llama", "gemma3", "phi3"])
def test_copies_of_weights_sample_what_the_layers_do(
    tiny_folder: Callable[[str], Path], kind: str, copies: str
) -> None:
    peer = on_gpu(tiny_folder(kind))
    assert_same_traces(peer, traces(peer), traces(on_gpu(tiny_folder(kind), sampling_weights=copies)))


@pytest.mark.parametrize("copies", ["own", "dense"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_rounded_and_packed_weights(llama_folder: Path, dtype: str, quantization: str, copies: str) -> None:
    lora = LoraSettings(r=4)
    peer = on_gpu(llama_folder, quantization=quantization, dtype=dtype, lora=lora, sampling_weights=copies)
    assert peer.head.weight.dtype == (torch.float32 if dtype == "float32" else torch.bfloat16)
    assert all(p.dtype == torch.float32 for p in peer.adapter_parameters().values())
    packed = [p for p in peer.network.parameters() if p.dtype == torch.uint8]
    assert len(packed) == (14 if quantization == "nf4" else 0)
    assert all(p.device.type == "cuda" for p in packed)

    plain = exact(peer, llama_folder, lora)
    scored, noted, found = noted_and_scored(peer)
    expected = scores(plain, scored)
    if dtype == "float32":
        assert float((noted - expected).abs().max()) < 1e-3
        assert float((found - expected).abs().max()) < 1e-3
    else:  # activations are rounded, in sampling no more than in scoring
        assert 0 < rms(found - expected) < 0.1
        assert rms(noted - expected) < 2 * rms(found - expected)
    assert_same_gradients(gradients(plain, scored), gradients(peer, scored), 1e-2 if dtype == "float32" else 0.3)


def test_eight_bits(llama_folder: Path) -> None:
    peer = on_gpu(llama_folder, quantization="int8", dtype="float16", lora=LoraSettings(r=4))
    scored = [s for s, _ in traces(peer)]
    found = gradients(peer, scored)
    assert all(torch.isfinite(g).all() for g in found.values())
    assert any(g.abs().sum() > 0 for g in found.values())
    plain = on_gpu(llama_folder, lora=LoraSettings(r=4))
    with torch.no_grad():
        one, other = (p.logprobs(scored)[0] for p in (peer, plain))
    assert float((one - other).abs().mean()) < 0.1


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_gradient_checkpointing_changes_no_gradient(llama_folder: Path, quantization: str) -> None:
    options = {"quantization": quantization, "lora": LoraSettings(r=4)}
    kept, again = on_gpu(llama_folder, **options), on_gpu(llama_folder, gradient_checkpointing=True, **options)
    scored = [s for s, _ in traces(kept)]
    assert_same_gradients(gradients(kept, scored), gradients(again, scored))


def test_an_adapter_saved_on_a_gpu_is_read_on_a_processor(llama_folder: Path, tmp_path: Path) -> None:
    there = on_gpu(llama_folder)
    there.save_adapter(tmp_path)
    here = make_peer(llama_folder, adapter=str(tmp_path), wake=False)
    for name, weight in there.adapter_parameters().items():
        assert torch.equal(weight.cpu(), here.adapter_parameters()[name])


def test_memory_of_scoring_does_not_hold_the_logits(llama_folder: Path) -> None:
    from core_lightning.peers.compute.head import LogitHead
    from core_lightning.peers.scoring.token_logprobs import token_logprobs

    tokens, vocabulary, width = 4096, 262_144, 64
    head = LogitHead(torch.randn(vocabulary, width, device="cuda", dtype=torch.bfloat16))
    hidden = torch.randn(tokens, width, device="cuda", dtype=torch.bfloat16).requires_grad_()
    targets = torch.randint(vocabulary, (tokens,), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    token_logprobs(hidden, targets, head, 0.7, entropy_grad=True)[0].sum().backward()
    assert torch.cuda.max_memory_allocated() - before < 300e6
    exact = hidden.detach()[:64].double().requires_grad_()
    logits = exact @ head.weight.double().T / 0.7
    torch.log_softmax(logits, -1).gather(1, targets[:64, None]).sum().backward()
    assert (hidden.grad[:64].double() - exact.grad).norm() < 0.02 * exact.grad.norm()
