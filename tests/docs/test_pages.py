"""The pages hang together: what ``mkdocs build --strict`` asks, asked without mkdocs, and of the pages outside docs/ too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from core_lightning.protocol.credit import CreditSettings
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.rewards import Correctness
from core_lightning.training.settings import AdvantageSettings

ROOT = Path(__file__).parents[2]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
OUTSIDE = [f for folder in (".", "configs", "tests", "benchmarks", "benchmarks/learning") for f in (ROOT / folder).glob("*.md")]
PAGES = sorted((ROOT / "docs").rglob("*.md")) + sorted(OUTSIDE)


def in_nav(entries: list[Any]) -> list[str]:
    found = []
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            found += in_nav(value) if isinstance(value, list) else [value]
    return found


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Anchors that Markdown makes of headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", re.sub(r"[`*]|\]\([^)]*\)|\[", "", h).lower()) for h in headings]
    return {re.sub(r"\s+", "-", w.strip()) for w in words}


def links(page: Path) -> list[str]:
    text = without_code(page.read_text(encoding="utf-8"))
    # A link text may be code, which is gone by now.
    return re.findall(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", text)


def test_every_page_is_in_the_navigation_once() -> None:
    named = in_nav(SITE["nav"])
    there = [str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")]
    assert sorted(named) == sorted(there)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if ROOT / "docs" in page.parents:
            assert ROOT / "docs" in target.parents, f"{link} leads out of the site"
        if anchor:
            assert anchor in anchors(target), link


def test_a_dead_link_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One *two* `three`\n[`x`](gone.md) `[y](code.md)`\n```\n[z](block.md)\n# no heading\n```\n", encoding="utf-8")
    assert links(page) == ["gone.md"]
    assert anchors(page) == {"one-two-three"}


def test_every_module_of_the_api_pages_is_there_and_every_room_has_a_page() -> None:
    pages = {p.stem: re.findall(r"^::: (\S+)", p.read_text("utf-8"), re.MULTILINE) for p in (ROOT / "docs/api").glob("*.md")}
    for names in pages.values():
        assert names
        assert all((ROOT / f"{name.replace('.', '/')}.py").is_file() for name in names), names
    rooms = {"records", "answers", "protocol", "rewards", "objectives", "metrics", "peers", "data", "callbacks"}
    assert rooms <= pages.keys()


def test_every_yes_of_the_readmes_comparison_has_its_test() -> None:
    """Each row of ours that claims something names a test that is there."""
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## Beside other libraries")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 10
    for what, ours, *_ in rows:
        named = re.findall(r"\]\((tests/[\w/]+\.py) \"([\w.]+)\"\)", ours)
        assert named or ours.startswith(("**no**", "0.5B")), what
        for file, name in named:
            source = (ROOT / file).read_text(encoding="utf-8")
            assert f"\ndef {name}(" in source or file.endswith(f"/{name}"), name


def test_no_docstring_points_to_a_document_that_is_not_here() -> None:
    """Method notes are in docs/concepts.md; a stranger can open no other."""
    for file in (ROOT / "core_lightning").rglob("*.py"):
        assert not re.search(r"\(METHOD\b|\bDESIGN\.md|\bPITFALLS", file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_every_file_of_the_project_that_a_page_names_is_there(page: Path) -> None:
    for path in set(re.findall(r"`((?:[\w-]+/)+[\w.-]+\.(?:py|md|yaml))`", page.read_text(encoding="utf-8"))):
        assert path.startswith(("runs/", "checkpoints/", "evaluations/", "adapters/")) or any(
            (folder / path).exists() for folder in (ROOT, ROOT / "core_lightning")
        ), path


def test_every_stop_of_a_problems_way_is_defined_in_its_file() -> None:
    page = (ROOT / "docs/concepts.md").read_text(encoding="utf-8").split("## One problem's way")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 15
    for stop, _, files, names in rows:
        paths = [next(p for p in (ROOT / f, ROOT / "core_lightning" / f) if p.exists()) for f in re.findall(r"`([^`]+)`", files)]
        sources = [path.read_text(encoding="utf-8") for path in paths]
        defined = [set(re.findall(r"^ *(?:def|class) (\w+)", source, re.MULTILINE)) for source in sources]
        named = re.findall(r"`([^`]+)`", names)
        assert named, stop
        assert set(named) <= set().union(*defined), stop
        assert all(own & set(named) for own in defined), f"{stop}: a file without a name"


def test_what_was_decided_is_the_default() -> None:
    """Every `group.setting: value` in the column of our decisions, beside the settings themselves."""
    groups = {"rounds": RoundSettings(), "credit": CreditSettings(), "advantage": AdvantageSettings(), "": Correctness()}
    page = (ROOT / "docs/concepts.md").read_text(encoding="utf-8").split("## What was decided")[1].split("\n## ")[0]
    ours = " ".join(line.split("|")[2] for line in page.splitlines() if line.startswith("|"))
    said = re.findall(r"`(?:(\w+)\.)?(\w+): ([\w.-]+)`", ours)
    assert len(said) >= 7
    for group, name, value in said:
        assert str(getattr(groups[group], name)) == value, (group, name)


def test_the_quickstart_that_the_readme_shows_was_run() -> None:
    """Every figure of its tables stands in the output that was kept."""
    shown = (ROOT / "README.md").read_text(encoding="utf-8").split("## What you will see")[1].split("```")[1]
    kept = (ROOT / "benchmarks/results/quickstart_native_bfloat16.txt").read_text(encoding="utf-8").splitlines()
    rows = [re.findall(r"[-+]?\d+(?:\.\d+)?", line) for line in shown.splitlines() if "[" in line]
    assert len(rows) == 8
    for row in rows:
        assert any(re.findall(r"[-+]?\d+(?:\.\d+)?", line) == row for line in kept), row
