"""Devices that cannot be used are refused before a model is loaded."""

from __future__ import annotations

import pytest
import torch

from core_lightning.peers import PeerConfig, PeerSourceError
from core_lightning.training.team import load_peers


@pytest.mark.parametrize(("trainer", "peer"), [("mps", "auto"), ("cpu", "mps"), ("cpu", "mps:0")])
def test_a_device_without_float64_is_refused_before_a_model_is_loaded(trainer: str, peer: str) -> None:
    configs = {"a": PeerConfig("no/such-model", device=peer)}
    with pytest.raises(PeerSourceError, match=r"peer 'a' would run on Apple's MPS.*set trainer\.accelerator") as error:
        load_peers(configs, torch.device(trainer), share_base=False)
    assert "\n" not in str(error.value)
