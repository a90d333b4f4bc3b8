"""Logits that are not numbers end in one line, not in a fault of an index."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core_lightning.peers import GenerationSettings
from core_lightning.peers.sampling.drawing import NotFiniteError, sample_tokens
from naive import make_peer


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
@pytest.mark.parametrize("vocabulary", [7, 512, 1300])
def test_a_bad_row_is_marked_and_leaves_the_others_as_they_are(bad: float, top_p: float, vocabulary: int) -> None:
    logits = torch.randn(3, vocabulary, generator=torch.Generator().manual_seed(0))
    seeds = torch.tensor([1, 2, 3])
    expected, expected_logprobs = sample_tokens(logits[[0, 2]], 0.8, top_p, seeds[[0, 2]], 4)
    logits[1, 3] = bad
    tokens, logprobs = sample_tokens(logits, 0.8, top_p, seeds, 4)
    assert torch.equal(tokens[[0, 2]], expected)
    assert torch.equal(logprobs[[0, 2]], expected_logprobs)
    assert not logprobs[1].isfinite()


def test_a_line_names_the_peer_and_where_the_numbers_ended(llama_folder: Path) -> None:
    peer = make_peer(llama_folder, "ann", generation=GenerationSettings(max_new_tokens=4))
    name, weight = next(iter(peer.adapter_parameters().items()))
    with torch.no_grad():
        weight[0, 0] = torch.nan
    with pytest.raises(NotFiniteError) as error:
        peer.sample([[5, 6, 7], [5, 6]], [[1], [2, 3]])
    assert "\n" not in str(error.value)
    assert "peer 'ann' cannot sample: logits are not finite at token 1" in str(error.value)
    assert name in str(error.value)
