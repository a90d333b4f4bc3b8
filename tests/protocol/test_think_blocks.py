"""A reasoning model's think block: trained on as it was sampled, never an answer, in a hint only on request."""

from __future__ import annotations

import pytest

from core_lightning.protocol.credit import CreditMode, CreditSettings, assign_credit
from core_lightning.protocol.prompts import PromptSettings
from core_lightning.protocol.rounds import RoundSettings, cold_round, plan_rescues, rescue_round
from core_lightning.protocol.teachers import rank_teachers
from scripted import ScriptedPeer, always, problem, verify

PROMPTS = PromptSettings(text="Q: {question} A:", text_hinted="Q: {question} Hint: {hint} A:")
TAUGHT = "<think> is it \\boxed{8} or not </think> Add 3 and 4 \n #### 7"
FAILED = "<think> the answer is 7 </think> #### 8"
RESCUED = "<think> with a hint </think> so \\boxed{7}"


@pytest.mark.parametrize("hint_think", [False, True])
@pytest.mark.parametrize("mode", ["hinted", "cold", "peer_trace", "own_trace"])
def test_think_blocks_from_sampling_to_training(hint_think: bool, mode: CreditMode) -> None:
    peers = {
        "a": ScriptedPeer("a", always(TAUGHT)),
        "b": ScriptedPeer("b", lambda question, hinted, seed: RESCUED if hinted else FAILED),
    }
    settings = RoundSettings(k=1, hint_think=hint_think)
    groups = cold_round([problem()], peers, PROMPTS, verify, k=1, seed=(0,))
    rank_teachers(groups, peers, settings, seed=(0,))
    plan = plan_rescues(groups, peers, PROMPTS, settings, seed=(0,))
    rescue_round(plan, peers, PROMPTS, verify, settings, seed=(0,))
    (group,) = groups
    # Answers: what stands in the block counts for nothing, neither the wrong box of a nor the right number of b.
    assert [(t.peer, t.round, t.answer, t.correct) for t in group] == [
        ("a", "cold", "7", True), ("b", "cold", "8", False), ("b", "rescue", "7", True),
    ]  # fmt: skip
    # Hints.
    hint = group.of("b", "rescue")[0].hint
    assert hint is not None
    assert hint.text.endswith("Add 3 and 4")
    assert ("<think>" in hint.text) == hint_think
    # Training: every trace with its block, whoever learns from it.
    trained = {
        name: {
            peer.decode(e.token_ids)
            for e in assign_credit(groups, name, CreditSettings(mode), lambda text, p=peer: p.ids(text))
        }
        for name, peer in peers.items()
    }
    own = {
        "hinted": {FAILED, RESCUED},
        "cold": {FAILED, RESCUED},
        "peer_trace": {FAILED, TAUGHT},
        "own_trace": {FAILED},
    }
    assert trained == {"a": {TAUGHT}, "b": own[mode]}
