"""What the processor can do: asked in one place, so that it can also be told.

A processor multiplies bfloat16 by instructions of its own (native) or by way of float32 (emulated, some ten times slower).
Which of the two decides the type of products, and with it the last digits of every result. ``CORE_LIGHTNING_BFLOAT16``
set to ``native`` or ``emulated`` answers in the processor's place, in child processes too: for the same figures on two
machines, and for tests of both ways on any.
"""

from __future__ import annotations

import os
import platform
from functools import cache

import torch

#: The environment variable that answers in the processor's place.
VARIABLE = "CORE_LIGHTNING_BFLOAT16"


def native_bfloat16() -> bool:
    """Whether products of bfloat16 on the processor are made in bfloat16.

    Raises:
        ValueError: ``CORE_LIGHTNING_BFLOAT16`` is neither ``native`` nor ``emulated``.
    """
    told = os.environ.get(VARIABLE, "")
    if told not in ("", "native", "emulated"):
        raise ValueError(f"{VARIABLE} is {told!r}; set it to native or emulated, or leave it out")
    return _has_bfloat16() if told == "" else told == "native"


@cache
def onednn_types() -> tuple[torch.dtype, ...]:
    """The types in which oneDNN has a product for this processor; nobody can be told to have one."""
    if not torch.backends.mkldnn.is_available():
        return ()
    bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if bfloat16 else (torch.float32,)


@cache
def exact_int8_products() -> bool:
    """Whether products of 8-bit integers, which ``quantization: int8`` is made of, are exact on this processor.

    Where oneDNN has no instructions for them (VNNI), it adds pairs of products in 16 bits and cuts off what does not fit.
    On such a processor torch multiplies by itself; but ``ONEDNN_MAX_CPU_ISA`` takes them from oneDNN without its knowledge.
    """
    from bitsandbytes.functional import int8_linear_matmul

    most = torch.full((8, 64), 127, dtype=torch.int8)
    return bool((int8_linear_matmul(most, most) == 64 * 127 * 127).all())


@cache
def _has_bfloat16() -> bool:
    # oneDNN has a bfloat16 product for every AVX-512; without the instructions for it, it is an emulation.
    if torch.bfloat16 not in onednn_types():
        return False
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    probes = (getattr(torch.cpu, f"_is_{name}_supported", lambda: False) for name in ("avx512_bf16", "amx_tile"))
    return any(probe() for probe in probes)
