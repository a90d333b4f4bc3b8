"""Weights are those of the checkpoint and of the start adapter, all of them, or the model is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import tiny
from core_lightning.peers import LoraSettings, PeerSourceError
from core_lightning.peers.sources import check
from naive import Scored, make_peer, naive_logits

SCORED = [Scored([5, 6, 7] * n, [9, 10, 30 + n, 2]) for n in (1, 2, 3)]
Edit = Callable[[dict[str, torch.Tensor]], None]


def refused(folder: Path, **options: object) -> str:
    with pytest.raises(PeerSourceError) as error:
        make_peer(folder, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def copied(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def edited(folder: Path, target: Path, edit: Edit, file: str = "model.safetensors", **settings: object) -> Path:
    """A copy of a folder with other weights, and other entries in its config."""
    copied(folder, target)
    weights = load_file(target / file)
    edit(weights)
    save_file(weights, target / file, metadata={"format": "pt"})
    config = target / "config.json"
    if settings:
        config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    return target


def base_logprobs(network: torch.nn.Module, temperature: float) -> list[torch.Tensor]:
    with torch.no_grad():
        rows = []
        for s in SCORED:
            logits = naive_logits(network, s.prompt_ids + s.token_ids)[len(s.prompt_ids) - 1 : -1].float() / temperature
            rows.append(logits.log_softmax(-1).gather(1, torch.tensor(s.token_ids)[:, None])[:, 0])
        return rows


# --- whole checkpoints ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left_out", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_a_checkpoint_without_a_weight_is_refused_by_name(llama_folder: Path, tmp_path: Path, left_out: str) -> None:
    folder = edited(llama_folder, tmp_path / "m", lambda w: (w.pop(left_out), None)[1])
    assert f"it has no {left_out}" in refused(folder)


def test_a_checkpoint_without_a_layer_names_the_first_of_many(llama_folder: Path, tmp_path: Path) -> None:
    def without_a_layer(weights: dict[str, torch.Tensor]) -> None:
        for name in [n for n in weights if ".layers.1." in n]:
            del weights[name]

    said = refused(edited(llama_folder, tmp_path / "m", without_a_layer))
    assert "it has no model.layers.1.input_layernorm.weight" in said
    assert "and 6 more" in said


def test_a_checkpoint_with_more_layers_than_it_says_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    folder = edited(llama_folder, tmp_path / "m", lambda w: None, num_hidden_layers=1)
    assert "no place for its model.layers.1.input_layernorm.weight" in refused(folder)


def test_a_checkpoint_without_its_head_is_refused(neox_folder: Path, tmp_path: Path) -> None:
    folder = edited(
        neox_folder, tmp_path / "m", lambda w: (w.pop("embed_out.weight", w.pop("lm_head.weight", None)), None)[1]
    )
    assert "it has no" in refused(folder)


def test_a_weight_of_another_shape_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    def narrower(weights: dict[str, torch.Tensor]) -> None:
        weights["model.norm.weight"] = weights["model.norm.weight"][:-1].clone()

    assert "model.norm.weight" in refused(edited(llama_folder, tmp_path / "m", narrower))


@pytest.mark.parametrize("tied", [True, False])
def test_a_classifier_is_refused(tmp_path: Path, tied: bool) -> None:
    tokenizer = tiny.character_tokenizer(False, False)
    sizes = tiny.GROUPED | tiny.SPECIALS
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=tied, **sizes)
    transformers.LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    said = refused(tmp_path)
    assert "score.weight" in said
    assert "LlamaForSequenceClassification" in said


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_refused_before_a_model_is_loaded(
    llama_folder: Path, tmp_path: Path, file: str
) -> None:
    folder = copied(llama_folder, tmp_path / "m")
    (folder / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(PeerSourceError, match="git lfs pull"):
        check(str(folder))


# --- checkpoints that are stored quantized ----------------------------------------------------------------------------


def save_fp8(folder: Path, block: int = 32) -> torch.nn.Module:
    """A llama in 8-bit floats with a scale for every block, and, for the oracle, the same weights unpacked by hand."""
    tiny.save(folder, "Llama", 0, chat=True, **(tiny.GROUPED | {"hidden_size": 64, "intermediate_size": 64}))
    weights = load_file(folder / "model.safetensors")
    plain = dict(weights)
    for name in [n for n in weights if n.endswith("proj.weight")]:
        rows, columns = weights[name].shape
        tiles = weights[name].view(rows // min(block, rows), min(block, rows), columns // block, block)
        scale = tiles.abs().amax((1, 3)).float() / 448 * 7  # far from 1, so that leaving it out is seen
        packed = (tiles / scale[:, None, :, None]).clamp(-448, 448).to(torch.float8_e4m3fn)
        weights[name] = packed.view(rows, columns)
        weights[f"{name}_scale_inv"] = scale
        plain[name] = (packed.float() * scale[:, None, :, None]).view(rows, columns)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    oracle = AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder)).eval()
    oracle.load_state_dict(plain)
    settings = json.loads((folder / "config.json").read_text())
    settings["quantization_config"] = {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": [block, block],
    }
    (folder / "config.json").write_text(json.dumps(settings))
    return oracle


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU these weights stay packed")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_eight_bit_floats_are_unpacked_with_their_scales(tmp_path: Path, dtype: str) -> None:
    oracle = save_fp8(tmp_path)
    peer = make_peer(tmp_path, dtype=dtype)
    expected = base_logprobs(oracle, peer.config.generation.temperature)
    with torch.no_grad():
        logprobs = peer.logprobs(SCORED, "reference")[0]
    # The scales are multiplied in bfloat16.
    for row, exact in zip(logprobs, expected, strict=True):
        torch.testing.assert_close(row[: len(exact)], exact, atol=0.1, rtol=0.02)
    kinds = {p.dtype for n, p in peer.network.named_parameters() if "lora_" not in n}
    assert kinds == {getattr(torch, dtype)}


#: The sixteen values of a 4-bit float (E2M1), in the order of its bits.
FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def save_mxfp4(folder: Path) -> torch.nn.Module:
    """A gpt-oss whose experts are 4-bit floats with a shared power of two for every 32, and the oracle."""
    shape = tiny.GROUPED | {
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    }
    shape |= {
        "head_dim": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "num_hidden_layers": 1,
    }
    tiny.save(folder, "GptOss", 0, chat=True, **shape, layer_types=["full_attention"])
    generator = torch.Generator().manual_seed(0)
    weights = load_file(folder / "model.safetensors")
    plain = dict(weights)
    for name in ("gate_up_proj", "down_proj"):
        key = f"model.layers.0.mlp.experts.{name}"
        experts, inside, outside = weights.pop(key).shape
        codes = torch.randint(16, (experts, outside, inside // 32, 32), generator=generator, dtype=torch.uint8)
        powers = torch.randint(123, 126, (experts, outside, inside // 32), generator=generator, dtype=torch.uint8)
        weights[f"{key}_blocks"] = codes[..., 0::2] | codes[..., 1::2] << 4
        weights[f"{key}_scales"] = powers
        values = FP4[codes.long()] * 2.0 ** (powers.float() - 127)[..., None]
        plain[key] = values.view(experts, outside, inside).transpose(1, 2).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    oracle = AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder)).eval()
    oracle.load_state_dict(plain)
    settings = json.loads((folder / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["self_attn", "router"]}
    (folder / "config.json").write_text(json.dumps(settings))
    return oracle


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU these weights stay packed")
def test_four_bit_floats_are_unpacked_with_their_powers(tmp_path: Path) -> None:
    oracle = save_mxfp4(tmp_path)
    peer = make_peer(tmp_path)
    expected = base_logprobs(oracle, peer.config.generation.temperature)
    with torch.no_grad():
        logprobs = peer.logprobs(SCORED, "reference")[0]
    for row, exact in zip(logprobs, expected, strict=True):
        torch.testing.assert_close(row[: len(exact)], exact, atol=1e-3, rtol=1e-3)  # these values are exact in 16 bits


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_quantizer_that_is_not_installed_is_named(llama_folder: Path, tmp_path: Path, method: str) -> None:
    settings = {"quant_method": method, "bits": 4, "group_size": 32}
    folder = edited(llama_folder, tmp_path / "m", lambda w: None, quantization_config=settings)
    assert method in refused(folder).lower()


def test_packed_weights_are_not_packed_again(tmp_path: Path) -> None:
    save_fp8(tmp_path)
    said = refused(tmp_path, quantization="nf4")
    assert "is stored quantized (fp8)" in said
    assert "set quantization to none" in said


def test_a_checkpoint_stored_in_four_bits_keeps_them(llama_folder: Path, tmp_path: Path) -> None:
    first = make_peer(llama_folder, quantization="nf4")
    network = first.network.unload()
    network.save_pretrained(tmp_path)
    first.tokenizer.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = make_peer(llama_folder, quantization="nf4").logprobs(SCORED, "reference")[0]
        for quantization in ("none", "nf4"):
            peer = make_peer(tmp_path, quantization=quantization)
            assert any(type(m).__name__ == "Linear4bit" for m in peer.network.modules())
            torch.testing.assert_close(peer.logprobs(SCORED, "reference")[0], expected, atol=1e-4, rtol=1e-4)
    assert "set quantization to none" in refused(tmp_path, quantization="int8")


# --- start adapters ---------------------------------------------------------------------------------------------------


@pytest.fixture
def start(llama_folder: Path, tmp_path: Path) -> Path:
    make_peer(llama_folder).save_adapter(tmp_path / "start")
    return tmp_path / "start"


def with_weights(start: Path, edit: Edit) -> Path:
    weights = load_file(start / "adapter_model.safetensors")
    edit(weights)
    save_file(weights, start / "adapter_model.safetensors")
    return start


def test_half_an_adapter_is_refused(llama_folder: Path, start: Path) -> None:
    def halve(weights: dict[str, torch.Tensor]) -> None:
        for name in [n for n in weights if ".layers.1." in n]:
            del weights[name]

    said = refused(llama_folder, adapter=str(with_weights(start, halve)))
    assert "is not whole: it has no base_model.model.model.layers.1" in said


@pytest.mark.parametrize("replaced", [("base_model.model.", ""), (".layers.", ".h."), ("lora_A", "lora_X")])
def test_an_adapter_of_other_names_is_refused(llama_folder: Path, start: Path, replaced: tuple[str, str]) -> None:
    def rename(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            weights[name.replace(*replaced)] = weights.pop(name)

    assert "does not fit" in refused(llama_folder, adapter=str(with_weights(start, rename)))


def test_an_adapter_with_a_nan_is_refused(llama_folder: Path, start: Path) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        next(iter(weights.values()))[0, 0] = torch.nan

    assert "not finite" in refused(llama_folder, adapter=str(with_weights(start, spoil)))


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_that_is_a_pointer_is_refused(llama_folder: Path, start: Path, file: str) -> None:
    (start / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    assert "git lfs pull" in refused(llama_folder, adapter=str(start))


@pytest.mark.parametrize("kind", ["pissa", "olora", "pissa_niter_4"])
def test_an_adapter_that_changed_its_base_is_refused(llama_folder: Path, tmp_path: Path, kind: str) -> None:
    network = AutoModelForCausalLM.from_pretrained(llama_folder)
    settings = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=kind, task_type="CAUSAL_LM")  # type: ignore[arg-type]
    get_peft_model(network, settings).save_pretrained(tmp_path)
    said = refused(llama_folder, adapter=str(tmp_path))
    assert f"was started by {kind}" in said
    assert "another model" in said


def test_an_adapter_of_another_kind_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(llama_folder)
    settings = AdaLoraConfig(init_r=4, target_r=2, target_modules=["q_proj"], total_step=9, task_type="CAUSAL_LM")
    get_peft_model(network, settings).save_pretrained(tmp_path)
    assert "is of kind ADALORA" in refused(llama_folder, adapter=str(tmp_path))


@pytest.mark.parametrize("setting", [{"modules_to_save": ["embed_tokens"]}, {"bias": "all"}])
def test_an_adapter_that_trained_more_than_its_low_ranks_is_refused(
    llama_folder: Path, start: Path, setting: dict[str, object]
) -> None:
    file = start / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | setting))
    assert next(iter(setting)) in refused(llama_folder, adapter=str(start))


@pytest.mark.parametrize("init", [True, "gaussian", "orthogonal"])
def test_other_starts_of_an_adapter_are_put_on_as_they_are(llama_folder: Path, tmp_path: Path, init: object) -> None:
    network = AutoModelForCausalLM.from_pretrained(llama_folder).eval()
    settings = LoraConfig(r=4, target_modules=["q_proj", "o_proj"], init_lora_weights=init, task_type="CAUSAL_LM")  # type: ignore[arg-type]
    adapted = get_peft_model(network, settings)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    adapted.save_pretrained(tmp_path)
    peer = make_peer(llama_folder, wake=False, adapter=str(tmp_path), lora=LoraSettings(r=4))
    with torch.no_grad():
        logprobs = peer.logprobs(SCORED)[0]
    for row, exact in zip(logprobs, base_logprobs(adapted.eval(), 0.8), strict=True):
        torch.testing.assert_close(row[: len(exact)], exact, atol=1e-4, rtol=1e-4)
