"""Which layers get an adapter: every target fits, routers and towers beside the text have none, and a line says the share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

import tiny
from core_lightning.peers import LoraSettings, Peer, PeerSourceError
from core_lightning.peers.adapters import adapted_share
from core_lightning.peers.sources import ModelSource, hub_name
from naive import Scored, make_peer

SCORED = [Scored([5, 6, 7] * 3, [9, 10, 30, 2]), Scored([8, 6, 7] * 2, [9, 12, 30, 2])]
EXPERTS = tiny.GROUPED | {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
MIXTURES = {
    "Mixtral": EXPERTS,
    "Phimoe": EXPERTS,
    "Qwen3Moe": EXPERTS | {"head_dim": 8, "moe_intermediate_size": 16},
    "Qwen2Moe": EXPERTS | {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "Olmoe": EXPERTS,
    "GraniteMoe": EXPERTS,
}


def adapted(peer: Peer) -> set[str]:
    return {n.split(".lora_")[0].removeprefix("base_model.model.") for n in peer.adapter_parameters()}


@pytest.mark.parametrize("kind", MIXTURES)
def test_all_linear_leaves_routers_out(tmp_path: Path, kind: str) -> None:
    peer = make_peer(tiny.save(tmp_path / kind, kind, 0, **MIXTURES[kind]))
    names = adapted(peer)
    assert any(n.endswith("q_proj") for n in names)
    assert not [n for n in names if "router" in n or n.endswith(".gate")]
    assert "experts" in peer.notes[0]  # they are one tensor, which no adapter reaches
    share, bare = adapted_share(peer.network, "a")
    assert 0 < share < 1
    assert any("expert" in n for n in bare)
    peer.logprobs(SCORED)[0].sum().backward()
    assert all(p.grad is not None for p in peer.adapter_parameters().values())


def save_qwen_vl(folder: Path) -> Path:
    """A model that sees, whose tower has names that the text's layers have, too."""
    tokenizer = tiny.character_tokenizer(False, True)
    torch.manual_seed(0)
    text = tiny.GROUPED | tiny.SPECIALS | {"vocab_size": len(tokenizer)}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, image_token_id=4)
    transformers.Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "gate_proj", "down_proj"]])
def test_a_tower_that_text_never_passes_has_no_adapter(tmp_path: Path, targets: list[str] | str) -> None:
    peer = make_peer(save_qwen_vl(tmp_path), lora=LoraSettings(r=4, targets=targets))
    assert adapted(peer)
    assert not [n for n in adapted(peer) if "visual" in n]
    peer.logprobs(SCORED)[0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in peer.adapter_parameters().values())
    if targets == "all-linear":
        assert adapted_share(peer.network, "a") == (1.0, [])


def test_a_target_that_fits_nothing_is_an_error(tmp_path: Path) -> None:
    tiny.save_phi3(tmp_path)
    with pytest.raises(PeerSourceError) as error:
        make_peer(tmp_path, lora=LoraSettings(r=4))
    assert "lora.targets q_proj, k_proj, v_proj, gate_proj, up_proj fit no layer" in str(error.value)
    assert "choose among down_proj, gate_up_proj, o_proj, qkv_proj, or all-linear" in str(error.value)


def test_a_line_says_which_share_has_an_adapter(llama_folder: Path) -> None:
    peer = make_peer(llama_folder, lora=LoraSettings(r=4, targets=["q_proj", "down_proj"]))
    # By hand, for a hidden size of 32, 4 heads of 8 of which 2 are shared, and 64 in the feed-forward.
    total = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64
    share, bare = adapted_share(peer.network, "a")
    assert share == pytest.approx((32 * 32 + 32 * 64) / total)
    assert bare == ["gate_proj", "k_proj", "o_proj", "up_proj", "v_proj"]
    assert f"{share:.0%} of the weights of linear layers have an adapter" in peer.notes[0]
    assert "packed" not in peer.notes[0]


def test_a_line_says_which_share_is_packed(tmp_path: Path) -> None:
    peer = make_peer(tiny.save(tmp_path / "moe", "Mixtral", 0, **EXPERTS), quantization="nf4")
    packed = sum(p.quant_state.shape.numel() for p in peer.network.parameters() if hasattr(p, "quant_state"))
    base = {n: p for n, p in peer.network.named_parameters() if "lora_" not in n and p.ndim > 1}
    total = sum(p.quant_state.shape.numel() if hasattr(p, "quant_state") else p.numel() for p in base.values())
    assert 0 < packed < total / 2  # the experts are not among them
    assert f"{packed / total:.0%} of all weights are packed" in peer.notes[0]


def test_a_saved_adapter_names_its_base_by_its_place_on_the_hub(tmp_path: Path, llama_folder: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--some-org--tiny" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file in llama_folder.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    make_peer(snapshot).save_adapter(tmp_path / "adapter")
    saved = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (saved["base_model_name_or_path"], saved["revision"]) == ("some-org/tiny", commit)
    # Also when it started from an adapter that named another place.
    make_peer(llama_folder).save_adapter(tmp_path / "local")
    make_peer(snapshot, adapter=str(tmp_path / "local")).save_adapter(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    assert (saved["base_model_name_or_path"], saved["revision"]) == ("some-org/tiny", commit)


def test_the_name_on_the_hub() -> None:
    assert hub_name(ModelSource("org/model", "main"), "abc1234") == ("org/model", "abc1234")
    assert hub_name(ModelSource("org/model", "main"), None) == ("org/model", "main")
    assert hub_name(ModelSource("/data/model", local=True), None) == (None, None)


def test_experts_that_are_adapted_as_one_tensor_are_counted(tmp_path: Path) -> None:
    """PEFT wraps the experts of some families whole, which have no weight of their own; loading AFMoE was a traceback."""
    shape = tiny.GROUPED | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_dense_layers": 1}
    peer = make_peer(tiny.save(tmp_path, "Afmoe", 3, **shape), lora=LoraSettings(r=2, targets="all-linear"))
    share, bare = adapted_share(peer.network, "a")
    sizes = {n: p.numel() for n, p in peer.network.named_parameters() if "lora_" not in n}
    assert any("experts.base_layer" in n for n in sizes)
    adapted = sum(size for n, size in sizes.items() if ".base_layer." in n)
    left = sum(size for n, size in sizes.items() if n.endswith("_proj.weight") and ".base_layer." not in n)
    assert share == pytest.approx(adapted / (adapted + left))
    assert bare == ["down_proj", "gate_proj", "up_proj"]  # of the dense layer, of shared experts and of gated attention
