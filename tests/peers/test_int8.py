"""Eight-bit bases on a CPU: quantized, trained through, and sampled from; refused where their products would be wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core_lightning.peers import loading
from core_lightning.peers.compute.processor import exact_int8_products
from core_lightning.peers.sources import PeerSourceError
from naive import Scored, learn, make_peer

SCORED = [Scored([5, 6, 7], [9, 10, 2]), Scored([5, 6, 7] * 2, [9, 30, 31, 2])]


#: Prints what the library says of this processor, and whether products of many integers are those in 64 bits.
PROBE = """
import torch
from bitsandbytes.functional import int8_linear_matmul
from core_lightning.peers.compute.processor import exact_int8_products
one, other = (torch.randint(-127, 128, (32, 256), dtype=torch.int8) for _ in range(2))
print(exact_int8_products(), torch.equal(int8_linear_matmul(one, other).long(), one.long() @ other.long().T))
"""


@pytest.mark.skipif(not exact_int8_products(), reason="8-bit products are wrong on this processor, and refused")
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


@pytest.mark.parametrize("most", ["DEFAULT", "AVX2"])
def test_products_that_are_cut_off_are_seen(most: str) -> None:
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": most}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROBE], env=environment, capture_output=True, text=True, check=True)
    said, true = done.stdout.split()
    assert said == true


@pytest.mark.parametrize(
    ("told", "mend"), [("AVX2", "leave out ONEDNN_MAX_CPU_ISA, which is AVX2"), (None, "nf4 or unquantized ones, or a GPU")]
)
def test_a_processor_that_cuts_them_off_is_refused(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch, told: str | None, mend: str
) -> None:
    monkeypatch.setattr(loading, "exact_int8_products", lambda: False)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if told:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", told)
    with pytest.raises(PeerSourceError, match=f"products of 8-bit weights are wrong on this processor; .*{mend}"):
        make_peer(llama_folder, quantization="int8")
    assert make_peer(llama_folder, quantization="none")
