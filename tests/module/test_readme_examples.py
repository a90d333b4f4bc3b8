"""The Python of the README is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from core_lightning.rewards import RewardContext, WeightedTerm
from runs import Diary, build, fit, of_peer, peer, same

README = Path(__file__).parents[2] / "README.md"


def blocks() -> dict[str, dict[str, Any]]:
    """What each Python block defines, by its last name."""
    spaces = []
    for code in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        space: dict[str, Any] = {"__name__": "readme"}
        exec(code, space)
        spaces.append(space)
    return {list(space)[-1]: space for space in spaces}


def test_a_team_of_four_trains(llama_folder: Path, neox_folder: Path, tmp_path: Path) -> None:
    quartet = blocks()["QuartetReasoningModule"]["QuartetReasoningModule"]
    peers = {"a": peer(llama_folder), "b": peer(neox_folder), "c": peer(llama_folder, lr=1e-3), "d": peer(neox_folder)}
    with pytest.raises(ValueError, match="QuartetReasoningModule needs 4 or more"):
        build({n: peers[n] for n in "abc"}, quartet)
    module, diary = build(peers, quartet), Diary()
    fit(module, tmp_path, diary, limit_train_batches=1)
    assert {key[1] for key in diary.traces[0]} == set("abcd")
    assert [n for n in "abcd" if same(of_peer(diary.start, n), of_peer(diary.weights[-1], n))] == []


def test_a_term_of_ones_own_scores(llama_folder: Path, neox_folder: Path, tmp_path: Path) -> None:
    brevity = blocks()["Brevity"]["Brevity"]()
    module = build({"a": peer(llama_folder), "b": peer(neox_folder)}, rewards={"brevity": WeightedTerm(brevity)})
    diary = Diary()
    fit(module, tmp_path, diary, limit_train_batches=1)
    assert "reward/brevity/mean" in diary.metrics[0]
    for group in module.record.groups:
        assert [t.terms["brevity"] for t in group] == brevity(group, RewardContext())
        assert all((t.terms["brevity"] > 0) == t.correct for t in group)
