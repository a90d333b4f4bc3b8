"""Eight-bit bases on a CPU: quantized, trained through, and sampled from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from naive import Scored, learn, make_peer

SCORED = [Scored([5, 6, 7], [9, 10, 2]), Scored([5, 6, 7] * 2, [9, 30, 31, 2])]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.filterwarnings("ignore:MatMul8bitLt")
def test_an_adapter_learns_on_an_eight_bit_base(llama_folder: Path, dtype: str) -> None:
    peer, exact = make_peer(llama_folder, quantization="int8", dtype=dtype), make_peer(llama_folder)
    layers = [m for m in peer.network.modules() if type(m).__name__ == "Linear8bitLt" and not hasattr(m, "base_layer")]
    assert len(layers) == 14  # seven projections in each of two layers
    assert {layer.weight.dtype for layer in layers} == {torch.int8}
    assert {p.dtype for p in peer.adapter_parameters().values()} == {torch.float32}
    with torch.no_grad():
        difference = (peer.logprobs(SCORED, "reference")[0] - exact.logprobs(SCORED, "reference")[0]).abs().max()
    assert 1e-4 < difference < 1.0  # quantized, and near the model it was
    values = learn(peer, SCORED, lr=1e-3)  # small enough that no model of any seed steps over its summit
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.005
    one, other = peer.sample([[5, 6, 7]], [[1, 2]])[0]
    assert one.token_ids != other.token_ids
