"""A merged model is the base with the adapter's product added, in its own files, and is checked before it is kept."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core_lightning.peers import LoraSettings, PeerConfig
from core_lightning.peers.merging import MergeError, logprobs, merge_adapter
from core_lightning.peers.peer import Peer
from core_lightning.peers.sources import PeerSourceError

PROMPTS = [[5, 9, 11, 30], [7, 7, 21, 40, 13]]


def trained(folder: Path, name: str, size: float, base: Peer | None = None) -> Peer:
    """A peer whose adapter is not nothing any more."""
    lora = LoraSettings(r=2, alpha=6, targets="all-linear")
    peer = Peer(name, PeerConfig(str(folder), quantization="none", dtype="float32", lora=lora), torch.device("cpu"), base)
    draw = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for parameter in peer.adapter_parameters().values():
            parameter.copy_(size * torch.randn(parameter.shape, generator=draw))
    return peer


def test_it_is_the_base_and_the_product_of_the_adapter(llama_folder: Path, tmp_path: Path) -> None:
    peer = trained(llama_folder, "a", 0.1)
    peer.save_adapter(tmp_path / "adapter")
    check = merge_adapter(peer.config, tmp_path / "adapter", PROMPTS, tmp_path / "out", dtype="float32")
    assert check.difference < 1e-5
    assert check.effect > 1e-3
    base, merged = (load_file(f / "model.safetensors") for f in (llama_folder, tmp_path / "out"))
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert merged.keys() == base.keys()
    changed = 0
    for name, weight in base.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        expected = weight.double()
        if f"{stem}.lora_A.weight" in adapter:
            a, b = (adapter[f"{stem}.lora_{part}.weight"].double() for part in "AB")
            expected = expected + 6 / 2 * b @ a
            changed += 1
        torch.testing.assert_close(merged[name].double(), expected, rtol=1e-6, atol=1e-7)
    assert changed == 14
    # Without this library, and without PEFT.
    from transformers import AutoModelForCausalLM, AutoTokenizer

    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    text = [*PROMPTS[0], 6]
    with torch.no_grad(), peer.policy("own"):
        torch.testing.assert_close(logprobs(alone, text), logprobs(peer.network, text), rtol=1e-4, atol=1e-4)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    assert {stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "out").iterdir()} == {
        stat.S_IMODE((llama_folder / "config.json").stat().st_mode)
    }


def test_peers_that_share_a_base_are_merged_each_with_its_own(llama_folder: Path, tmp_path: Path) -> None:
    a = trained(llama_folder, "a", 0.1)
    b = trained(llama_folder, "bb", 0.1, base=a)
    for peer in (a, b):
        peer.save_adapter(tmp_path / peer.name)
        # Packed in training, or not: the base is read anew.
        config = replace(peer.config, quantization="nf4", dtype="bfloat16")
        merge_adapter(config, tmp_path / peer.name, PROMPTS, tmp_path / f"out-{peer.name}", dtype="float32")
    one, other = (load_file(tmp_path / f"out-{n}" / "model.safetensors") for n in ("a", "bb"))
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(one[name], other[name])
    assert torch.equal(one["model.norm.weight"], other["model.norm.weight"])


def test_sixteen_bits_are_the_default(llama_folder: Path, tmp_path: Path) -> None:
    peer = trained(llama_folder, "a", 0.3)
    peer.save_adapter(tmp_path / "adapter")
    check = merge_adapter(peer.config, tmp_path / "adapter", PROMPTS, tmp_path / "out", tolerance=10)
    assert check.dtype == "bfloat16"
    assert {w.dtype for w in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    assert 0 < check.difference < check.effect


@pytest.mark.parametrize(
    ("size", "dtype", "tolerance", "said"),
    [(0.3, "bfloat16", 0.0, "is another one"), (1e-3, "bfloat16", 10.0, "--dtype float32")],
)
def test_what_differs_is_not_kept(
    size: float, dtype: str, tolerance: float, said: str, llama_folder: Path, tmp_path: Path
) -> None:
    peer = trained(llama_folder, "a", size)
    peer.save_adapter(tmp_path / "adapter")
    with pytest.raises(MergeError, match=said):
        merge_adapter(peer.config, tmp_path / "adapter", PROMPTS, tmp_path / "out", dtype, tolerance)  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_a_packed_base_is_refused(tiny_folder: Callable[[str], Path], llama_folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    peer = trained(llama_folder, "a", 0.1)
    peer.save_adapter(tmp_path / "adapter")
    packed = Path(shutil.copytree(llama_folder, tmp_path / "packed"))
    settings = json.loads((packed / "config.json").read_text())
    (packed / "config.json").write_text(json.dumps(settings | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    with pytest.raises(PeerSourceError, match="stored quantized"):
        merge_adapter(replace(peer.config, model=str(packed)), tmp_path / "adapter", PROMPTS, tmp_path / "out")


def test_the_conditional_generation_model_too(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    peer = trained(tiny_folder("mistral3"), "a", 0.1)
    peer.save_adapter(tmp_path / "adapter")
    check = merge_adapter(peer.config, tmp_path / "adapter", PROMPTS, tmp_path / "out", dtype="float32")
    assert check.difference < 1e-4 < check.effect
