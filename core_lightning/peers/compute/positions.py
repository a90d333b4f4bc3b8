"""One table of rotary positions for a run.

Two kinds of rotary positions depend on the longest row of a batch: LongRoPE (arXiv 2402.13753) has a table for short rows
and one for long rows, dynamic scaling one for every length. A trace would have other numbers beside a long trace than
alone, and other ones when it was sampled than when it is scored. So the table is chosen once, for the longest row a run
can have.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Kinds that look at the longest row, as transformers calls them.
_LOOKING = ("dynamic", "longrope")
#: What such a layer is told it is, so that it leaves its table as it is.
_FIXED = "fixed"


def fix_positions(network: Any, longest: int) -> list[str]:
    """Let a model's rotary positions be, from now on, those of a batch whose longest row has so many tokens.

    Args:
        network: A transformers model.
        longest: Tokens of the longest row.

    Returns:
        The kinds that looked at their batch and no longer do; empty for most models.

    Raises:
        ValueError: The table is fixed already, for rows of another length, and would be another one.
        NotImplementedError: A layer looks at its batch in a way of its own, so that its table cannot be fixed.
    """
    found = []
    for layer in network.modules():
        kinds = getattr(layer, "rope_type", None)
        usual = vars(layer).get("usual_rope_type", kinds)
        looking = [k for k in (usual.values() if isinstance(usual, dict) else [usual]) if _looks(k)]
        if not looking:
            continue
        before = _tables(layer) if kinds != usual else None
        layer.rope_type = usual
        _look(layer, longest, usual, network.device)
        if before is not None and any(not torch.equal(before[n], t) for n, t in _tables(layer).items()):
            raise ValueError(f"its rotary positions are those of other rows than of {longest} tokens")
        layer.usual_rope_type = usual
        layer.rope_type = (
            {n: _FIXED if _looks(k) else k for n, k in usual.items()} if isinstance(usual, dict) else _FIXED
        )
        if _still_looks(layer, longest, usual, network.device):
            raise NotImplementedError(
                f"its rotary positions ({type(layer).__name__}) depend on the longest row of a batch, up to {longest} tokens"
            )
        found += looking
    return sorted(set(found))


def _looks(kind: object) -> bool:
    return isinstance(kind, str) and any(name in kind for name in _LOOKING)


@torch.no_grad()
def _look(layer: Any, longest: int, kinds: Any, device: torch.device) -> None:
    """Show a layer the last position of a row, upon which it chooses its table."""
    x = torch.zeros(1, 1, 1, device=device)
    last = torch.tensor([[longest - 1]], device=device)
    for name, kind in kinds.items() if isinstance(kinds, dict) else [(None, kinds)]:
        if _looks(kind):
            layer(x, last, *([] if name is None else [name]))


@torch.no_grad()
def _still_looks(layer: Any, longest: int, kinds: Any, device: torch.device) -> bool:
    """Whether the first position is another one alone than beside the last position of the longest row."""
    x = torch.zeros(1, 1, 1, device=device)
    for name in kinds if isinstance(kinds, dict) else [None]:
        more = [] if name is None else [name]
        alone = layer(x, torch.tensor([[1]], device=device), *more)
        beside = layer(x, torch.tensor([[1, longest - 1]], device=device), *more)
        alone, beside = (found if isinstance(found, tuple) else (found,) for found in (alone, beside))
        if any(not torch.allclose(a[..., 0, :], b[..., 0, :]) for a, b in zip(alone, beside, strict=True)):
            return True
    return False


def _tables(layer: Any) -> dict[str, Tensor]:
    return {n: b.clone() for n, b in layer.named_buffers() if n.endswith("inv_freq") and "original" not in n}
