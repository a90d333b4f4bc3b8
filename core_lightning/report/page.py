"""The page about a run as one string of HTML that needs nothing from outside, and in which no script can run."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from core_lightning.report.evaluation import sampled_k
from core_lightning.report.figures import DPI, Panel
from core_lightning.report.plotting import RunData
from core_lightning.report.rescue import Rescue, RescueCounts, marked
from core_lightning.report.style import STYLE
from core_lightning.report.tables import Table, percent
from core_lightning.report.visible import visible


def page_environment() -> Any:
    """Templates of pages: every text that is put in is made visible and escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("core_lightning.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,  # Markup of a macro is escaped already
    )


def render_report(
    title: str,
    run: RunData,
    tables: Sequence[Table],
    panels: Sequence[tuple[Panel, Path]] = (),
    rescues: Sequence[Rescue] = (),
    failed: Sequence[Rescue] = (),
    counts: RescueCounts | None = None,
    manifest: Mapping[str, Any] | None = None,
    facts: Mapping[str, str] | None = None,
    explore: str | None = None,
    explore_hint: str = "",
) -> str:
    """The page as one string.

    Args:
        title: Heading.
        run: Steps and evaluations.
        tables: In reading order.
        panels: Pictures and the light PNG of each; the dark one lies beside it.
        rescues: Printed in full.
        failed: Hints that did not help, printed in full.
        counts: Rescue counts, if they were kept.
        manifest: What ``manifest.json`` holds, empty when there is none.
        facts: Settings that matter, by name.
        explore: Name of the interactive page beside this one.
        explore_hint: What to do where there is none.
    """
    manifest = manifest or {}
    told = [
        (f"{len(rescues)} rescues", RESCUES, [_attempt(r, True) for r in rescues]),
        (f"{len(failed)} hints that did not help", FAILED, [_attempt(r, False) for r in failed]),
    ]
    lists = {"Settings": dict(facts or {}), "Made from": _made_from(manifest) if manifest else {}}
    page = page_environment().get_template("report.html.j2")
    return page.render(
        title=title,
        style=STYLE,
        lead=_lead(run, manifest),
        explore=explore,
        explore_hint=explore_hint,
        tiles=_tiles(run, counts),
        sections=[
            (section, [_picture(*panel) for panel in own]) for section, own in groupby(panels, lambda p: p[0].section)
        ],
        tables=tables,
        told=[part for part in told if part[2]],
        lists=[(heading, own) for heading, own in lists.items() if own],
    )


RESCUES = (
    "A peer failed a problem in every cold trace and was right with a hint. A rescue is imitated only if it is faithful: "
    "every token was likely enough, and every equation in it holds."
)
FAILED = "The same, but it was still wrong with the hint."


def _attempt(rescue: Rescue, rescued: bool) -> dict[str, Any]:
    pieces = marked(rescue.get("teacher_text", ""), rescue["hint"].strip())
    return {
        **rescue,
        **{name: rescue[name].strip() for name in ("question", "wrong_text", "text")},
        "step": rescue["step"] + 1,
        "wrong_answer": rescue["wrong_answer"] or "no answer",
        "answer": rescue["answer"] or "no answer",
        "rescued": rescued,
        "pieces": pieces,
        "removed": any(removed for _, removed in pieces),
    }


def _lead(run: RunData, manifest: Mapping[str, Any]) -> str:
    models = {n: p["model"] for n, p in manifest.get("peers", {}).items()}
    team = ", ".join(f"{peer} ({models[peer]})" if peer in models else peer for peer in run.peers)
    data = (manifest.get("data") or {}).get("source", "")
    steps = len(run.columns["step"])
    done = f"{steps} training steps" if steps or not run.history else f"evaluated at step {run.history[-1]['step']}"
    return f"{team}{f' on {data}' if data else ''}, {done}."


def _tiles(run: RunData, counts: RescueCounts | None) -> list[tuple[str, str, str]]:
    tiles = []
    if run.history:
        first, last = run.history[0]["values"], run.history[-1]["values"]
        k = sampled_k(run.history[-1])
        names = [(f"{peer} Pass@1", f"{peer}/pass_at_1") for peer in run.peers]
        names += [(f"Team Pass@{k}", f"team_pass_at_{k}")] * (len(run.peers) > 1)
        for label, name in names:
            was = f"from {percent(first[name]['value'])} %" if len(run.history) > 1 else "one evaluation"
            tiles.append((label, f"{percent(last[name]['value'])} %", was))
    if counts is not None and counts.hinted:
        rescued, hinted = counts.rescued, counts.hinted
        leaks = percent(counts.leaks / hinted)
        note = f"{rescued} of {hinted} hinted, {counts.faithful} faithful; gold in {leaks} % of hints"
        tiles.append(("Rescued", f"{percent(rescued / hinted)} %", note))
    return tiles


def _picture(panel: Panel, path: Path) -> dict[str, Any]:
    light, dark = (file.read_bytes() for file in (path, path.with_name(f"{path.stem}-dark.png")))
    sources = ["data:image/png;base64," + base64.b64encode(png).decode() for png in (light, dark)]
    width = int.from_bytes(light[16:20], "big") * 100 // DPI  # of the PNG header; shown at 100 pixels an inch
    return {"title": panel.title, "caption": panel.caption, "light": sources[0], "dark": sources[1], "width": width}


def _made_from(manifest: Mapping[str, Any]) -> dict[str, str]:
    data = manifest.get("data") or {}
    made = {"seed": str(manifest.get("seed", ""))}
    made |= {f"peer {n}": ", ".join(str(v) for v in p.values() if v) for n, p in manifest.get("peers", {}).items()}
    made["data"] = str(data.get("source", "unknown"))
    made |= {
        f"{split} problems": f"{about['size']} (sha256 {about['sha256'][:12]})"
        for split, about in data.get("splits", {}).items()
    }
    made["versions"] = ", ".join(f"{name} {number}" for name, number in manifest.get("versions", {}).items())
    return made
