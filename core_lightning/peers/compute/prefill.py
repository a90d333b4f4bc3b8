"""Prompts read once: what all prompts begin with, then what is left of each, then every completion of a prompt.

Sampling and scoring both start here. A group's traces share their prompt, and few-shot prompts share their examples, so
most of the tokens of a step would otherwise be computed many times over. Nothing is approximated: the key-value cache of
the shared part is spread over the rows that continue it, with its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from core_lightning.peers.compute.paths import Paths

#: A shorter common beginning is not worth a forward pass of its own.
SHORTEST_PREFIX = 16


@dataclass
class Prefilled:
    """Prompts in a key-value cache, padded so that every prompt ends in the last column."""

    cache: Any
    mask: Tensor
    """1 for real tokens, ``Tensor[prompts, columns]``."""
    last: Tensor
    """Hidden state of each prompt's last token, which predicts the first of its completion, ``Tensor[prompts, d]``."""
    lengths: Tensor
    """Real tokens of each prompt, ``int64 Tensor[prompts]``."""

    def spread(self, rows: Tensor) -> Prefilled:
        """One row per completion: ``rows[i]`` is the prompt that completion ``i`` continues. The cache changes hands."""
        self.cache.batch_select_indices(rows)
        return Prefilled(self.cache, self.mask[rows], self.last[rows], self.lengths[rows])


class Beginning:
    """What several batches begin with, run once for all of them.

    The batches see its keys and values as leaves, which collect their gradients; :meth:`backward` lets these flow on into
    the adapter. So a small batch costs no second pass over the few-shot examples.

    Args:
        backbone: A transformers model without its head.
        token_ids: The first tokens of every prompt that will be filled in.
    """

    def __init__(self, backbone: Any, token_ids: Sequence[int]) -> None:
        from core_lightning.peers.compute.cache import CACHE, new_cache

        self.token_ids = list(token_ids)
        cache: Any = new_cache(backbone)
        backbone(input_ids=torch.tensor([self.token_ids], device=backbone.device), use_cache=True, **{CACHE: cache})
        self._states: list[tuple[Any, Any]] = [(layer.keys, layer.values) for layer in cache.layers]
        self._leaves = [tuple(s.detach().requires_grad_(s.requires_grad) for s in pair) for pair in self._states]

    def starts(self, prompts: Sequence[Sequence[int]]) -> bool:
        """Whether all prompts begin with it and go on."""
        n = len(self.token_ids)
        return all(len(p) > n and list(p[:n]) == self.token_ids for p in prompts)

    def fill(self, cache: Any, rows: int) -> None:
        """Put it at the start of every row of an empty cache."""
        for i, (keys, values) in enumerate(self._leaves):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)

    def backward(self) -> None:
        """Pass on the gradients that the batches have left."""
        pairs = [
            (state, leaf.grad)
            for states, leaves in zip(self._states, self._leaves, strict=True)
            for state, leaf in zip(states, leaves, strict=True)
            if leaf.grad is not None
        ]
        if pairs:
            torch.autograd.backward([state for state, _ in pairs], [grad for _, grad in pairs])


def can_begin(backbone: Any) -> bool:
    """Whether every layer keeps keys and values of its own, which a :class:`Beginning` hands on."""
    from core_lightning.peers.compute.cache import keeps_only_attention, new_cache

    config = backbone.config.get_text_config()
    return keeps_only_attention(new_cache(backbone)) and not getattr(config, "num_kv_shared_layers", 0)


def common_beginning(
    backbone: Any, prompts: Sequence[Sequence[int]], completion: int, paths: Paths | None = None
) -> list[int]:
    """First tokens of all prompts that a :class:`Beginning` can run once; empty where that does not pay.

    Args:
        backbone: A transformers model without its head.
        prompts: Token ids of each prompt.
        completion: Tokens that will follow at most.
        paths: Short cuts of the model; what its cache allows if None.
    """
    paths = Paths.of(backbone) if paths is None else paths
    if not prompts or not paths.can_share(prompts) or not can_begin(backbone):
        return []
    window = getattr(backbone.config.get_text_config(), "sliding_window", None)
    return list(prompts[0][: shared_prefix(prompts, window, completion)])


def prefill(
    backbone: Any,
    prompts: Sequence[Sequence[int]],
    pad_id: int,
    completion: int,
    beginning: Beginning | None = None,
    paths: Paths | None = None,
) -> Prefilled:
    """Run prompts through a model.

    Args:
        backbone: A transformers model without its head.
        prompts: Token ids of each prompt.
        pad_id: Fills shorter prompts; it is masked.
        completion: Tokens that will follow at most.
        beginning: What all of these prompts begin with, if that has been run.
        paths: Short cuts of the model; what its cache allows if None.

    Raises:
        ValueError: The prompts are of unequal length, and the model takes no padding.
    """
    from core_lightning.peers.compute.cache import CACHE, HeldStates, forget_held_states, keeps_states, new_cache

    paths = Paths.of(backbone) if paths is None else paths
    if paths.padding == "nowhere" and len(set(map(len, prompts))) > 1:
        raise ValueError("prompts of unequal length in one batch of a model that takes no padding")
    device, config = backbone.device, backbone.config.get_text_config()
    cache: Any = new_cache(backbone)
    if paths.states_in_modules:
        forget_held_states(backbone)
    if beginning is not None:
        shared = len(beginning.token_ids)
        beginning.fill(cache, len(prompts))
    elif shared := _shared(prompts, getattr(config, "sliding_window", None), completion, paths, keeps_states(cache)):
        backbone(input_ids=torch.tensor([prompts[0][:shared]], device=device), use_cache=True, **{CACHE: cache})
        cache.batch_repeat_interleave(len(prompts))
    rest = [list(p[shared:]) for p in prompts]
    longest = max(map(len, rest))
    ids = torch.tensor([[pad_id] * (longest - len(r)) + r for r in rest], device=device)
    own = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rest], device=device)
    mask = torch.cat([own.new_ones(len(prompts), shared), own], dim=1)
    hidden = backbone(
        input_ids=ids,
        attention_mask=mask,
        position_ids=shared + (own.cumsum(-1) - 1).clamp_(min=0),
        use_cache=True,
        **{CACHE: cache},
    ).last_hidden_state
    if paths.states_in_modules:
        cache.layers.append(HeldStates(backbone, len(prompts)))
    return Prefilled(cache, mask, hidden[:, -1], mask.sum(-1))


def _shared(prompts: Sequence[Sequence[int]], window: int | None, completion: int, paths: Paths, states: bool) -> int:
    """How many first tokens a batch runs once for all of its prompts."""
    if not paths.can_share(prompts):
        return 0
    # A layer of states writes one token alone over its old state, which a backward pass may need: two are left.
    return shared_prefix(prompts, window, completion, left=2 if states else 1)


def shared_prefix(prompts: Sequence[Sequence[int]], window: int | None, completion: int, left: int = 1) -> int:
    """How many first tokens are run once for all prompts; at least so many tokens of each prompt are left.

    Behind a shared beginning the padding stands in the middle of a row. A full attention does not see it, but a sliding
    window counts columns, so there must be room for everything within one window.
    """
    if len(prompts) < 2 or (window is not None and max(map(len, prompts)) + completion > window):
        return 0
    same = takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    shared = min(sum(1 for _ in same), min(map(len, prompts)) - left)
    return shared if shared >= SHORTEST_PREFIX else 0


def completion_hidden(
    backbone: Any,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    pad_id: int,
    beginning: Beginning | None = None,
    paths: Paths | None = None,
) -> tuple[Tensor, Tensor]:
    """Hidden states that predict each completion token.

    Args:
        backbone: A transformers model without its head, in a state in which it may use a cache.
        prompts: Prompt of each completion; equal prompts are run once.
        completions: Token ids, at least one each.
        pad_id: Fills shorter rows; it is masked.
        beginning: What all of these prompts begin with, if that has been run.
        paths: Short cuts of the model; what its cache allows if None.

    Returns:
        ``Tensor[completions, tokens, d]`` and its ``bool Tensor[completions, tokens]`` mask of real tokens.
    """
    from core_lightning.peers.compute.cache import CACHE, keeps_states

    paths = Paths.of(backbone) if paths is None else paths
    if not paths.can_score_cached(prompts):
        return padded_hidden(backbone, prompts, completions, pad_id)
    device = backbone.device
    places: dict[tuple[int, ...], int] = {}
    rows = torch.tensor([places.setdefault(tuple(p), len(places)) for p in prompts], device=device)
    lengths = torch.tensor([len(c) for c in completions], device=device)
    longest = int(lengths.max())
    start = prefill(backbone, list(places), pad_id, longest, beginning, paths).spread(rows)
    mask = torch.arange(longest, device=device) < lengths[:, None]
    if longest == 1:
        return start.last[:, None], mask
    # The last token of a completion predicts nothing that is scored. A layer of states writes one token alone over its
    # old state, which a backward pass may need: it gets two.
    width = max(longest - 1, 2 if keeps_states(start.cache) else 1)
    ids = torch.tensor([[*c[:-1], *[pad_id] * (width - len(c) + 1)] for c in completions], device=device)
    columns = torch.arange(width, device=device)
    hidden = backbone(
        input_ids=ids,
        attention_mask=torch.cat([start.mask, (columns < lengths[:, None] - 1).to(start.mask.dtype)], dim=1),
        position_ids=start.lengths[:, None] + columns,
        use_cache=True,
        **{CACHE: start.cache},
    ).last_hidden_state
    return torch.cat([start.last[:, None], hidden[:, : longest - 1]], dim=1), mask


def padded_hidden(
    backbone: Any, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], pad_id: int
) -> tuple[Tensor, Tensor]:
    """The same as :func:`completion_hidden` in one pass without a cache: every row computes its own prompt."""
    device = backbone.device
    rows = [[*p, *c] for p, c in zip(prompts, completions, strict=True)]
    longest = max(map(len, rows))
    # Padding on the right, so positions need no shift; causality hides it from every real token.
    ids = torch.tensor([r + [pad_id] * (longest - len(r)) for r in rows], device=device)
    attention = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows], device=device)
    hidden = backbone(input_ids=ids, attention_mask=attention, use_cache=False).last_hidden_state
    lengths = torch.tensor([len(c) for c in completions], device=device)
    columns = torch.arange(int(lengths.max()), device=device)
    # Position i predicts token i + 1: the last prompt token predicts the first of the completion.
    first = torch.tensor([len(p) - 1 for p in prompts], device=device)
    where = (first[:, None] + columns).clamp_(max=longest - 1)
    return hidden.gather(1, where[:, :, None].expand(-1, -1, hidden.shape[-1])), columns < lengths[:, None]
