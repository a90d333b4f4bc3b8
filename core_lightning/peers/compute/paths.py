"""Short cuts through a model, and which of them it takes.

Every short cut has a plain way that gives the same numbers more slowly. Which short cuts are exact depends on what a model
keeps of what it has read, so it is decided by its cache and by trying it, not by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

Padding = Literal["anywhere", "left", "nowhere"]

#: Tokens of the row that a model is tried with; half of them are read first.
_TRIED = 8
#: How far hidden states may be apart, in units of their spread: above the rounding of 16 bits, below a state that is lost.
_APART = 0.1


@dataclass
class Paths:
    """The short cuts of one model. A self-test may switch one off: all who hold these settings see it."""

    prefix: bool = True
    """What all prompts of a batch begin with is read once."""
    padding: Padding = "anywhere"
    """Where padding may stand in a row that is continued: also behind a shared beginning, only on the left of whole
    prompts, or nowhere, so that only prompts of equal length share a batch."""
    cached_scores: bool = True
    """Completions are scored behind the cache of their prompts, which are read once. Otherwise every row is read whole."""
    states_in_modules: bool = False
    """States are kept by the layers themselves, not in the cache: one batch at a time, which padding would leak into."""

    @classmethod
    def of(cls, backbone: Any) -> Paths:
        """What the kinds of layers in a model's cache allow; a model with states is tried with a few tokens.

        Args:
            backbone: A transformers model without its head.
        """
        from core_lightning.peers.compute.cache import keeps_states, new_cache

        if not keeps_states(new_cache(backbone)):
            return cls()
        filled, continues = _tried(backbone)
        if not filled:
            return cls(prefix=False, padding="nowhere", cached_scores=False, states_in_modules=True)
        # A convolution reaches a few columns back: padding between a beginning and its rest would stand in its way.
        return cls(prefix=continues, padding="left", cached_scores=continues)

    def can_share(self, prompts: Sequence[Sequence[int]]) -> bool:
        """Whether what these prompts begin with may be read once for all of them."""
        return self.prefix and (self.padding == "anywhere" or len(set(map(len, prompts))) <= 1)

    def can_score_cached(self, prompts: Sequence[Sequence[int]]) -> bool:
        """Whether completions of these prompts may be scored behind their cache."""
        return self.cached_scores and (self.padding != "nowhere" or len(set(map(len, prompts))) <= 1)


@torch.no_grad()
def _tried(backbone: Any) -> tuple[bool, bool]:
    """Whether a model puts its states into the cache, and whether it goes on from them with several tokens at once.

    Some layers of transformers start from zero whenever they read more than one token (Jamba's scan, for one).
    """
    from core_lightning.peers.compute.cache import CACHE, has_states, new_cache

    ids = torch.arange(1, _TRIED + 1, device=backbone.device)[None] % backbone.get_input_embeddings().weight.shape[0]
    whole = backbone(input_ids=ids, use_cache=False).last_hidden_state[:, _TRIED // 2 :].float()
    cache: Any = new_cache(backbone)
    backbone(input_ids=ids[:, : _TRIED // 2], use_cache=True, **{CACHE: cache})
    filled = has_states(cache)
    position = torch.arange(_TRIED // 2, _TRIED, device=backbone.device)[None]
    rest = backbone(input_ids=ids[:, _TRIED // 2 :], position_ids=position, use_cache=True, **{CACHE: cache})
    apart = (rest.last_hidden_state.float() - whole).abs().max() / whole.std()
    return filled, bool(apart < _APART)
