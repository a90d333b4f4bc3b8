from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from core_lightning.callbacks import RescueRateCallback, RunFolder, RunReport, TeamPassAtKCallback
from core_lightning.report.evaluation import evaluate, score_problem
from core_lightning.report.figures import failure_table
from core_lightning.report.plotting import smooth
from scripted_team import ScriptedTeam, WrittenProblems, group_of, problem, trainer_in

pytestmark = pytest.mark.usefixtures("few_resamples")


class Page(HTMLParser):
    """Text, links and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.captions = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        self.captions += tag == "figcaption"
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report_of(folder: Path, team: ScriptedTeam, **settings: object) -> tuple[Page, Any]:
    rescues: Any = RescueRateCallback()
    callbacks = [RunFolder(), TeamPassAtKCallback(), rescues, RunReport()]
    trainer_in(folder, callbacks, **settings).fit(team, WrittenProblems(train=8, val=10))
    rescues.trainer_steps = team.batches_done
    return Page((folder / "report.html").read_text()), rescues


def figures(folder: Path) -> set[str]:
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in (folder / "figures").iterdir())
    return {p.stem for p in (folder / "figures").iterdir() if not p.stem.endswith("-dark")}


def test_report_of_a_pair(tmp_path: Path) -> None:
    page, rescues = report_of(tmp_path / "pair", ScriptedTeam())
    assert page.open == []
    pictures = [link for link in page.links if link.startswith("data:image/png;base64,")]
    assert [link for link in page.links if link not in pictures] == ["explore.html"]  # nothing from outside
    assert len(pictures) == 2 * len(figures(tmp_path / "pair"))
    last = rescues.trainer_steps
    assert figures(tmp_path / "pair") == {
        "held_out", "before_after", "error_overlap_1_2_step0", f"error_overlap_1_2_step{last}", "solved", "rescue_rate",
        "reward_terms", "rewards", "time",
    }  # fmt: skip
    for part in (
        "pair",
        "Team Pass@2",
        "Seconds per step",
        "seed",
        "nano/a",
        f"{len(rescues.rescues)} rescues",
        f"{len(rescues.failed)} hints that did not help",
        "Machine",
    ):
        assert part in page.text
    assert rescues.failed
    assert all(r["text"] in page.text for r in [*rescues.rescues, *rescues.failed])
    assert page.captions == len(pictures) / 2


@pytest.mark.parametrize("peers", [("a",), ("a", "b", "c", "d")])
def test_two_steps_and_other_team_sizes(tmp_path: Path, peers: tuple[str, ...]) -> None:
    page, _ = report_of(tmp_path, ScriptedTeam(peers), limit_train_batches=2, max_epochs=1)
    assert page.open == []
    pairs = len(peers) * (len(peers) - 1) // 2
    assert sum(name.startswith("error_overlap") for name in figures(tmp_path)) == 2 * pairs


def test_without_evaluations(tmp_path: Path) -> None:
    page, _ = report_of(tmp_path, ScriptedTeam(), limit_val_batches=0, max_epochs=1)
    assert page.open == []
    assert figures(tmp_path) == {"solved", "rescue_rate", "reward_terms", "rewards", "time"}


@pytest.mark.usefixtures("small_report")
def test_text_of_models_is_escaped(tmp_path: Path) -> None:
    class Hostile(ScriptedTeam):
        def training_step(self, batch: list, batch_idx: int) -> None:
            super().training_step(batch, batch_idx)
            for group in self.record.groups:
                for trace in group:
                    trace.text = "<script>alert(1)</script></pre>"

    page, rescues = report_of(tmp_path, Hostile(), max_epochs=5, limit_val_batches=0)
    assert rescues.rescues
    assert "<script>alert(1)</script></pre>" in page.text
    assert "<script" not in re.sub(r"&lt;script", "", (tmp_path / "report.html").read_text())


def test_failure_table_is_a_joint_distribution() -> None:
    cold = [([True], [True]), ([True], [False]), ([False], [True]), ([False], [False]), ([True], [False])]
    groups = [group_of(problem(i), {"a": a, "b": b}) for i, (a, b) in enumerate(cold)]
    result = evaluate([score_problem(g, ["a", "b"], 1) for g in groups], ["a", "b"], 1, 0, "val")
    assert failure_table(result, "a", "b") == [[0.2, 0.4], [0.2, 0.2]]


def test_smoothing_leaves_out_what_is_missing() -> None:
    assert smooth([1.0, math.nan, 3.0, 5.0], 3) == [1.0, 2.0, 4.0, 4.0]
    assert smooth([0.0, 1.0, 1.0], 3, [3.0, 1.0, 0.0]) == [0.25, 0.25, 1.0]
    assert math.isnan(smooth([math.nan], 3)[0])
