"""The page about a run as one string of HTML that needs nothing from outside."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core_lightning.report.figures import DPI
from core_lightning.report.plotting import RunData
from core_lightning.report.rescue import Rescue, RescueCounts
from core_lightning.report.style import STYLE
from core_lightning.report.tables import Table, percent, sampled_k
from core_lightning.report.visible import visible

TITLES = {
    "learning": "Learning",
    "before_after": "Before and after",
    "error_overlap": "Do the peers fail on the same problems?",
    "rewards": "Rewards",
    "time": "Where the time went",
}


def escape(text: str) -> str:
    """Foreign text as content or attribute of a page."""
    return html.escape(visible(text))


def render_report(
    title: str,
    run: RunData,
    tables: Sequence[Table],
    figures: Sequence[tuple[str, str, Path]],
    rescues: Sequence[Rescue],
    counts: RescueCounts | None,
    manifest: dict[str, Any],
) -> str:
    """The page as one string.

    Args:
        title: Heading.
        run: Steps and evaluations.
        tables: In reading order.
        figures: Title, caption and light PNG of each; the dark one lies beside it.
        rescues: Printed in full.
        counts: Rescue counts, if they were kept.
        manifest: What ``manifest.json`` holds, empty when there is none.
    """
    sections = [
        f'<section><h2>{escape(heading)}</h2><figure class="card">{_picture(path, heading)}'
        f"<figcaption>{escape(caption)}</figcaption></figure></section>"
        for heading, caption, path in figures
    ]
    sections += [f"<section>{_html_table(table)}</section>" for table in tables]
    if rescues:
        told = "".join(map(_html_rescue, rescues))
        sections.append(f"<section><h2>{len(rescues)} rescues in full</h2>{told}</section>")
    if manifest:
        sections.append(_html_manifest(manifest))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><style>{STYLE}</style></head><body><main>'
        f'<header><p class="kicker">Collaborative reasoning run</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{escape(_lead(run, manifest))}</p></header>'
        f'<div class="tiles">{_tiles(run, counts)}</div>{"".join(sections)}</main></body></html>\n'
    )


def _lead(run: RunData, manifest: dict[str, Any]) -> str:
    models = {n: p["model"] for n, p in manifest.get("peers", {}).items()}
    team = ", ".join(f"{peer} ({models[peer]})" if peer in models else peer for peer in run.peers)
    data = (manifest.get("data") or {}).get("source", "")
    steps = len(run.columns["step"])
    done = f"{steps} training steps" if steps or not run.history else f"evaluated at step {run.history[-1]['step']}"
    return f"{team}{f' on {data}' if data else ''}, {done}."


def _tiles(run: RunData, counts: RescueCounts | None) -> str:
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
        tiles.append(
            ("Rescued", f"{percent(rescued / hinted)} %", f"{rescued} of {hinted} hinted; gold in {leaks} % of hints")
        )
    return "".join(
        f'<div class="card tile"><span>{escape(label)}</span><strong>{escape(value)}</strong>'
        f"<em>{escape(note)}</em></div>"
        for label, value, note in tiles
    )


def _picture(path: Path, alt: str) -> str:
    light, dark = (file.read_bytes() for file in (path, path.with_name(f"{path.stem}-dark.png")))
    width = int.from_bytes(light[16:20], "big") * 100 // DPI  # of the PNG header; shown at 100 pixels an inch
    sources = ["data:image/png;base64," + base64.b64encode(png).decode() for png in (light, dark)]
    return (
        f'<picture><source srcset="{sources[1]}" media="(prefers-color-scheme: dark)">'
        f'<img src="{sources[0]}" alt="{escape(alt)}" width="{width}"></picture>'
    )


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(
        f"<tr{' class=strong' if i in table.emphasized else ''}>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>"
        for i, row in enumerate(table.rows)
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<h2>{escape(table.title)}</h2><div class="card scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _html_rescue(rescue: Rescue) -> str:
    leak = '<span class="badge">gold value in the hint</span>' if rescue["leaks"] else ""
    wrong = rescue["wrong_answer"] or "no answer"
    blocks = [
        ("Question", rescue["question"], ""),
        (f"{rescue['student']}, cold: {wrong}", rescue["wrong_text"], "wrong"),
        (f"Hint from {rescue['teacher']}", rescue["hint"], "hint"),
        (f"{rescue['student']}, after the hint: {rescue['answer']}", rescue["text"], "right"),
    ]
    body = "".join(
        f'<div class="{kind}"><h4>{escape(heading)}</h4><pre>{escape(text.strip())}</pre></div>'
        for heading, text, kind in blocks
    )
    return (
        f'<article class="card rescue"><h3>{escape(rescue["problem"])} <small>step {rescue["step"]}, gold '
        f"{escape(rescue['gold'])}</small>{leak}</h3>{body}</article>"
    )


def _html_manifest(manifest: dict[str, Any]) -> str:
    data = manifest.get("data") or {}
    facts = {"seed": str(manifest.get("seed", ""))}
    facts |= {f"peer {n}": ", ".join(str(v) for v in p.values() if v) for n, p in manifest.get("peers", {}).items()}
    facts["data"] = str(data.get("source", "unknown"))
    facts |= {
        f"{split} problems": f"{about['size']} (sha256 {about['sha256'][:12]})"
        for split, about in data.get("splits", {}).items()
    }
    facts["versions"] = ", ".join(f"{name} {number}" for name, number in manifest.get("versions", {}).items())
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f'<section><h2>Made from</h2><div class="card scroll"><table class="facts">{rows}</table></div></section>'
