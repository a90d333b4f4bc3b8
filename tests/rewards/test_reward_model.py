"""The weighted sum, its schedules, its report, and terms from a user's own file."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core_lightning.protocol import Group
from core_lightning.rewards import (
    Constant,
    Correctness,
    GreedyMarginDiversity,
    HashingEmbedder,
    Linear,
    LogDetDiversity,
    Rarity,
    RescueBonus,
    RewardContext,
    RewardModel,
    RewardTerm,
    Schedule,
    Step,
    StepDistances,
    WeightedTerm,
    default_terms,
    published_terms,
)
from written_groups import group, groups, trace


@dataclass(frozen=True)
class Fixed(RewardTerm):
    """Returns what it was given."""

    values: tuple[float | None, ...]

    def __call__(self, group: Group, context: RewardContext) -> Sequence[float | None]:
        return self.values


def forbidden(texts: Sequence[str]) -> torch.Tensor:
    raise AssertionError(f"embedded {texts}")


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Constant(0.2), [0.2, 0.2, 0.2]),
        (Linear(0.0, 0.4), [0.0, 0.2, 0.4]),
        (Step(0.2, 0.05), [0.2, 0.05, 0.05]),
        (Step(0.2, 0.05, at=0.6), [0.2, 0.2, 0.05]),
    ],
)
def test_schedules_at_start_middle_and_end(schedule: Schedule, values: list[float]) -> None:
    assert [schedule(p) for p in (0.0, 0.5, 1.0)] == pytest.approx(values)


def test_linear_does_not_leave_its_range() -> None:
    assert (Linear(1.0, 2.0)(-0.5), Linear(1.0, 2.0)(1.5)) == (1.0, 2.0)


def test_schedules_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match=r"Step\.at"):
        Step(0.1, 0.2, at=1.5)
    with pytest.raises(ValueError, match=r"Linear\.end"):
        Linear(0.0, math.nan)
    with pytest.raises(ValueError, match="finite number"):
        WeightedTerm(Rarity(), math.inf)


def test_a_rescue_group_by_hand() -> None:
    g = group(
        trace("a"),
        trace("a", answer="7 apples"),
        trace("b", correct=True, answer="7"),
        trace("b"),
        trace("a", correct=True, answer="7", round="rescue", hinted=True),
    )
    RewardModel(
        {
            "correctness": WeightedTerm(Correctness(alpha=0.3), 1.0),
            "rescue": WeightedTerm(RescueBonus(), 0.15),
            "rarity": WeightedTerm(Rarity(), 0.2),
        }
    ).score([g])
    # rarity: one of four is right cold (1 - 1/4), the only rescue trace is right (1 - 1)
    assert [t.reward for t in g] == pytest.approx([0.0, 0.3 * 2 / 3, 1.3 + 0.2 * 0.75, 0.0, 1.3 + 0.15])
    assert g.traces[2].terms == {"correctness": 1.3, "rescue": 0.0, "rarity": 0.75}


@settings(max_examples=40)
@given(st.lists(groups(min_size=0, max_size=5), max_size=3), st.sampled_from(sorted(default_terms())))
def test_weight_zero_equals_leaving_the_term_out(batch: list[Group], name: str) -> None:
    off = RewardModel(default_terms() | {name: WeightedTerm(default_terms()[name].term, 0.0)})
    without = RewardModel({key: term for key, term in default_terms().items() if key != name})
    seen = []
    for model in (off, without):
        report = model.score(batch, 0.7, StepDistances(batch, HashingEmbedder()))
        seen.append((repr(report), [(t.terms, t.reward) for g in batch for t in g]))
    assert seen[0] == seen[1]


def test_distances_are_not_computed_unless_a_weighted_term_asks() -> None:
    g = group(trace(text="3 + 4"), trace(text="guess"))
    model = RewardModel({"diversity": WeightedTerm(LogDetDiversity(), 0), "rarity": WeightedTerm(Rarity())})
    assert not model.needs_distance
    model.score([g], 0.0, StepDistances([g], forbidden))
    assert g.traces[0].terms == {"rarity": 0.0}


def test_one_term_that_asks_for_distances_is_enough() -> None:
    assert RewardModel(default_terms()).needs_distance  # correctness does not ask, diversity does
    assert not RewardModel({}).needs_distance


def test_without_a_word_training_has_not_begun() -> None:
    model = RewardModel({"rarity": WeightedTerm(Rarity(), Step(0.0, 0.1))})
    g = group(trace(correct=True), trace())
    assert model.score([g]) == {}
    model.assign([g])
    assert [t.reward for t in g] == [0.0, 0.0]
    assert model.statistics([g]) == {}
    assert RewardContext().progress == 0.0


def test_weights_of_the_paper_and_our_own() -> None:
    """The paper's: diversity 0.2, from the middle of training on 0.05; distance to partners only then."""
    paper = {name: [t.weight_at(p) for p in (0.0, 1.0)] for name, t in published_terms().items()}
    assert paper == {
        "correctness": [1.0, 1.0], "diversity": [0.2, 0.05], "rescue": [0.15, 0.15], "rarity": [0.2, 0.2], "cross": [0.0, 0.1],
    }  # fmt: skip
    assert published_terms()["correctness"].term == Correctness(alpha=0.3)
    assert {name: t.weight for name, t in default_terms().items()} == {"correctness": 1.0, "diversity": 0.1}


def test_a_schedule_switches_a_term_on_halfway() -> None:
    model = RewardModel({"rarity": WeightedTerm(Rarity(), Step(0.0, 0.1))})
    g = group(trace(correct=True), trace())
    assert model.score([g], 0.2) == {}
    assert [t.reward for t in g] == [0.0, 0.0]
    assert model.score([g], 0.5)["rarity/mean"] == 0.25
    assert [t.reward for t in g] == pytest.approx([0.05, 0.0])


def test_no_opinion_makes_the_reward_unknown() -> None:
    g = group(trace(), trace(), trace())
    model = RewardModel({"own": WeightedTerm(Fixed((1.0, None, 0.0)), 0.5), "rarity": WeightedTerm(Rarity())})
    report = model.score([g])
    assert g.traces[0].reward == 0.5
    assert math.isnan(g.traces[1].reward)
    assert g.traces[1].terms == {"own": None, "rarity": 0.0}
    assert report["own/mean"] == 0.5  # over the two traces it had an opinion on
    assert report["own/nonzero"] == 0.5
    assert report["own/zero_groups"] == 0.0


def test_the_published_diversity_is_reported_as_identically_zero_and_the_default_is_not() -> None:
    texts = ["3 + 4 = 7", "half of 14", "count up from 3", "12 - 5", "guess", "4 + 3 = 7"]
    batch = [group(*[trace(text=t, correct=True) for t in texts]) for _ in range(3)]
    for terms, zero_groups in ((published_terms(), 1.0), (default_terms(), 0.0)):
        report = RewardModel(terms).score(batch, 0.0, StepDistances(batch, HashingEmbedder()))
        assert report["diversity/zero_groups"] == zero_groups
    assert report["diversity/nonzero"] == 1.0
    wrong = [group(*[trace(text=t) for t in texts])]
    report = RewardModel(default_terms()).score(wrong, 0.0, StepDistances(wrong, HashingEmbedder()))
    assert report["diversity/zero_groups"] == 1.0  # a group without a right trace stays without a signal


def test_the_cold_round_is_scored_alone_and_then_the_full_group() -> None:
    g = group(trace("a", text="guess"), trace("b", correct=True, answer="7", text="3 + 4"))
    step = StepDistances([g], HashingEmbedder())
    model = RewardModel(default_terms() | {"rescue": WeightedTerm(RescueBonus(), 0.15)})
    model.score([g], 0.0, step)
    cold = [t.reward for t in g]
    assert cold[1] > cold[0]
    g.add([trace("a", correct=True, answer="7", round="rescue", hinted=True, text="3 + 4")])
    model.score([g], 0.0, step)
    assert g.traces[2].terms["rescue"] == 1.0
    assert g.traces[1].terms["diversity"] == g.traces[2].terms["diversity"] == 0.0  # the rescue repeats the teacher


def test_a_term_that_misbehaves_is_named() -> None:
    with pytest.raises(ValueError, match="'own' returned 1 values for 2 traces"):
        RewardModel({"own": WeightedTerm(Fixed((1.0,)))}).score([group(trace(), trace())])
    with pytest.raises(ValueError, match=r"'own' returned .*None for no opinion"):
        RewardModel({"own": WeightedTerm(Fixed((math.nan,)))}).score([group(trace())])
    with pytest.raises(ValueError, match="set an embedder"):
        RewardModel({"d": WeightedTerm(GreedyMarginDiversity())}).score([group(trace())])
    with pytest.raises(ValueError, match="names a metric"):
        RewardModel({"a/b": WeightedTerm(Rarity())})


def test_terms_come_from_a_config_and_from_a_users_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jsonargparse import ArgumentParser

    (tmp_path / "brevity_term.py").write_text(
        "from core_lightning.rewards import RewardTerm\n"
        "class Brevity(RewardTerm):\n"
        "    def __init__(self, limit: int = 100): self.limit = limit\n"
        "    def __call__(self, group, context): return [float(len(t.text) <= self.limit) for t in group]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(
        "terms:\n"
        "  correctness: {term: {class_path: Correctness, init_args: {alpha: 0.5}}}\n"
        "  diversity: {term: LogDetDiversity, weight: {class_path: Step, init_args: {before: 0.2, after: 0.05}}}\n"
        "  brevity: {term: {class_path: brevity_term.Brevity, init_args: {limit: 4}}, weight: 0.1}\n"
    )
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--terms", type=dict[str, WeightedTerm])
    terms = parser.instantiate(parser.parse_args(["--config", str(config), "--terms.diversity.weight", "0"])).terms
    assert terms["correctness"] == WeightedTerm(Correctness(alpha=0.5), 1.0)
    assert terms["diversity"] == WeightedTerm(LogDetDiversity(), 0.0)
    g = group(trace(text="1234"), trace(text="12345"))
    report = RewardModel(terms).score([g])
    assert report["brevity/mean"] == 0.5
    assert [t.terms["brevity"] for t in g] == [1.0, 0.0]


def test_importing_rewards_and_objectives_stays_light() -> None:
    heavy = {"transformers", "lightning", "datasets", "math_verify", "matplotlib"}
    code = f"import sys, core_lightning.rewards, core_lightning.objectives, core_lightning.protocol.credit; print({heavy} & set(sys.modules))"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert imported.strip() == "set()"
