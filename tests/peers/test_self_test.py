"""The self-test at load: paths that differ from a plain pass are left out, models that differ are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.gemma3.modeling_gemma3 import Gemma3Attention

import tiny
from core_lightning.peers import PeerSourceError, self_test
from core_lightning.peers.compute import adapter_layers, attention
from core_lightning.peers.compute.shortening import shown
from core_lightning.peers.config import GenerationSettings
from naive import Scored, make_peer, naive_logprobs

SCORED = [Scored([*range(5, 45), *[7] * n], [9, 10, 30 + n, 2][: n + 1]) for n in (1, 2, 3)]
SMALL = {"hidden_size": 32, "initializer_range": 0.3}
#: Models whose rows must not have padding in the middle: a window that counts columns, and distances that do.
MIDDLE = {
    "GPTNeo": SMALL
    | {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8}
    | {"max_position_embeddings": 128, "intermediate_size": 64},
    "Mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128, "initializer_range": 0.3},
}
#: Models with dropout of their own inside a layer.
DROPPING = {
    "BioGpt": SMALL
    | {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
    | {"hidden_dropout_prob": 0.5, "activation_dropout": 0.5, "attention_probs_dropout_prob": 0.5},
    "XGLM": {"d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4, "init_std": 0.3}
    | {"max_position_embeddings": 128, "dropout": 0.5, "activation_dropout": 0.5, "attention_dropout": 0.5},
}


def assert_exact(peer: object) -> None:
    """Scores with and without gradient, and the gradient, are those of plain passes."""
    logprobs = peer.logprobs(SCORED)[0]  # type: ignore[attr-defined]
    logprobs.sum().backward()
    mine = {n: p.grad.clone() for n, p in peer.adapter_parameters().items()}  # type: ignore[attr-defined]
    peer.zero_grad()  # type: ignore[attr-defined]
    for row, s in zip(logprobs, SCORED, strict=True):
        with attention.library_layers(peer.network):  # type: ignore[attr-defined]
            expected, _ = naive_logprobs(peer, s, peer.config.generation.temperature)  # type: ignore[arg-type, attr-defined]
        torch.testing.assert_close(row[: len(s.token_ids)].double(), expected, atol=2e-4, rtol=1e-4)
        expected.sum().backward()
    for name, parameter in peer.adapter_parameters().items():  # type: ignore[attr-defined]
        torch.testing.assert_close(mine[name], parameter.grad, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("kind", MIDDLE)
def test_padding_in_the_middle_is_left_out_where_a_model_counts_it(tmp_path: Path, kind: str) -> None:
    peer = make_peer(tiny.save(tmp_path / kind, kind, 0, **MIDDLE[kind]), self_test=True)
    assert not peer.paths.prefix
    assert peer.paths.cached_scores
    assert "for this model what prompts begin with is read for each of them" in peer.notes[-1]
    assert_exact(peer)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2", "mistral3"])
def test_what_is_right_stays_as_it_is(tiny_folder: Callable[[str], Path], kind: str) -> None:
    plain, tested = (make_peer(tiny_folder(kind), self_test=on, wake=False) for on in (False, True))
    assert tested.notes == plain.notes
    assert tested.paths == plain.paths
    assert [n for n, _ in tested.named_modules()] == [n for n, _ in plain.named_modules()]
    assert str(tested.network.config) == str(plain.network.config)
    for name, parameter in tested.named_parameters():
        assert torch.equal(parameter, plain.get_parameter(name)), name
        assert parameter.grad is None
    assert tested.sample([[5, 6, 7]], [[1]]) == plain.sample([[5, 6, 7]], [[1]])


@pytest.mark.parametrize("options", [{"quantization": "nf4"}, {"dtype": "bfloat16"}, {"sampling_weights": "half"}])
def test_rounding_is_tolerated(llama_folder: Path, options: dict[str, object]) -> None:
    assert len(make_peer(llama_folder, self_test=True, **options).notes) == 1


def test_a_low_temperature_enlarges_no_rounding(llama_folder: Path) -> None:
    """Divided by 0.1, a good model can have a gradient of rounding alone; the temperature is no path that could be wrong."""

    def found(temperature: float) -> tuple[float, list[float]]:
        peer = make_peer(llama_folder, generation=GenerationSettings(max_new_tokens=12, temperature=temperature))
        oracle = self_test._Oracle(peer)
        away = self_test._difference(peer, oracle)
        return away.size, [p for row in oracle.rows for p in row.sampled]

    (cold, cold_logprobs), (plain, plain_logprobs), (warm, warm_logprobs) = map(found, (0.1, 1.0, 2.0))
    assert max(cold, plain, warm) < 1
    assert cold_logprobs == pytest.approx(plain_logprobs, abs=1e-4)
    assert warm_logprobs != pytest.approx(plain_logprobs, abs=1e-4)  # a higher one is tested as it is


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", DROPPING)
def test_dropout_of_the_base_never_reaches_the_loss(tmp_path: Path, kind: str, checkpointing: bool) -> None:
    folder = tiny.save(tmp_path / kind, kind, 0, **DROPPING[kind])
    peer = make_peer(folder, self_test=True, gradient_checkpointing=checkpointing)
    assert len(peer.notes) == 1
    assert_exact(peer)


def test_a_layer_of_ours_that_is_wrong_is_given_back(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = adapter_layers._added
    monkeypatch.setattr(adapter_layers, "_added", lambda result, low, up: right(result, low * 1.5, up))
    peer = make_peer(llama_folder, self_test=True)
    assert "for this model layers run as the library has them" in peer.notes[-1]
    assert_exact(peer)


def test_what_is_wrong_on_every_path_is_refused(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = self_test._sampled

    def off(*args: object) -> list[self_test._Row]:
        rows = right(*args)  # type: ignore[arg-type]
        rows[-1].sampled[0] += 0.1
        return rows

    monkeypatch.setattr(self_test, "_sampled", off)
    with pytest.raises(PeerSourceError, match=r"sampling differs from a plain pass of the model by 0\.1") as error:
        make_peer(llama_folder, self_test=True)
    assert "\n" not in str(error.value)


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny.character_tokenizer(False, False)
    from transformers import BertConfig, BertForMaskedLM

    shape = {k: v for k, v in tiny.SIZES.items() if k != "max_position_embeddings"}
    BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **shape, pad_token_id=0)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(PeerSourceError):
        make_peer(tmp_path, self_test=True)


def test_weights_that_are_not_numbers_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    for file in llama_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"][3, 4] = torch.nan
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PeerSourceError, match="not finite"):
        make_peer(tmp_path, self_test=True)


def test_a_deep_model_is_tested_on_one_layer_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 4
    numbers: list[list[int]] = []
    shape = tiny.GROUPED | {"num_hidden_layers": 12, "head_dim": 8, "query_pre_attn_scalar": 8}
    folder = tiny.save(tmp_path / "deep", "Gemma3", 0, **shape, sliding_window=64, layer_types=kinds)
    read = Gemma3Attention.forward

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        numbers.append([self.layer_idx, self.config.num_hidden_layers])
        return read(self, *args, **kwargs)

    monkeypatch.setattr(Gemma3Attention, "forward", noted)
    peer = make_peer(folder, self_test=False)
    numbers.clear()
    assert self_test.self_test(peer) == []
    assert {tuple(n) for n in numbers} == {(0, 2), (1, 2)}  # the whole model was not asked
    layers = peer.network.get_base_model().model.layers
    assert shown(peer.network.get_base_model().base_model) == [0, 2]
    assert [layer.self_attn.layer_idx for layer in layers] == list(range(12))
    assert peer.network.config.num_hidden_layers == 12
    assert peer.network.config.layer_types == kinds
    assert_exact(peer)


def test_a_text_is_read_where_the_tokenizer_has_enough_tokens_for_it(llama_folder: Path) -> None:
    peer = make_peer(llama_folder)
    text = peer.tokenizer(self_test._TEXT, add_special_tokens=False)["input_ids"]
    few = len(set(text) - set(peer.tokenizer.all_special_ids))
    assert self_test._tokens(peer, 4) == [t for t in text if t not in peer.tokenizer.all_special_ids][:4]
    drawn = self_test._tokens(peer, few + 1)
    assert len(drawn) == few + 1
    assert drawn[:4] != text[:4]


@pytest.mark.parametrize(("dtype", "tries"), [("float32", 1), ("bfloat16", 3)])
@pytest.mark.parametrize("wrong", [0, 1, 2, 9])
def test_rounding_in_16_bits_has_another_try_and_a_fault_has_none(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, tries: int, wrong: int
) -> None:
    peer = make_peer(llama_folder, dtype=dtype, wake=False)
    seen: list[float] = []

    def difference(peer: Any, oracle: Any) -> self_test.Difference:
        seen.append(sum(float(w.detach().abs().sum()) for n, w in peer.adapter_parameters().items() if "lora_B" in n))
        return self_test.Difference("sampling", 2.0 if len(seen) <= wrong else 0.5, "it differs")

    monkeypatch.setattr(self_test, "_difference", difference)
    before = peer.paths.prefix
    if wrong == 9:
        with pytest.raises(PeerSourceError, match="it differs"):
            self_test.self_test(peer)
        assert len(seen) == tries + 1 + len(self_test._LEFT_OUT)
    else:
        self_test.self_test(peer)
        assert len(seen) == wrong + 1
        assert (peer.paths.prefix == before) == (wrong <= tries)  # one more is right on the whole model
    short = seen[: min(tries, len(seen))]
    assert len(set(short)) == len(short)  # another adapter each time
    assert min(seen) > 0
    assert not any(w.any() for n, w in peer.adapter_parameters().items() if "lora_B" in n)
