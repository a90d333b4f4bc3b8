"""The files around the code: licence, citation, and commands that promise to be the same as CI's."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

import core_lightning

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_licence_is_whole_and_in_the_wheel(tmp_path: Path) -> None:
    """The build's own metadata decides, not what pyproject.toml asks for."""
    make = "import sys; from setuptools.build_meta import prepare_metadata_for_build_wheel as f; print(f(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", make, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    info = tmp_path / done.stdout.split()[-1]
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert (info / "licenses" / "LICENSE").read_text(encoding="utf-8") == text
    assert "License-Expression: Apache-2.0" in (info / "METADATA").read_text(encoding="utf-8")
    assert "Apache License\n" in text
    assert "Version 2.0, January 2004" in text
    assert "9. Accepting Warranty or Additional Liability." in text
    assert len(text.split()) > 1500


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == core_lightning.__version__
    assert citation["license"] == PROJECT["license"]
    newest = re.search(r"^## \[(\d[\w.]*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert (citation["version"], str(citation["date-released"])) == newest.groups()
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    (paper,) = citation["references"]
    assert paper["url"] == PROJECT["urls"]["Paper"]


def test_a_commit_is_checked_by_what_make_lint_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (hook,) = repository["hooks"]
    assert hook["entry"] == "make lint"


def test_the_workflow_runs_what_ci_runs() -> None:
    flow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    commands = [step.get("run") for job in flow["jobs"].values() for step in job["steps"]]
    assert "bash .ci/run" in commands
    targets = set(re.findall(r"^([\w-]+)(?: [\w-]+)*:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    made = re.findall(r"^make ([\w-]+)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"lint", "docs", "test"} == set(made) <= targets
    assert made[-1] == "test"  # whose closing line says how many passed
    python = next(s["with"]["python-version"] for s in flow["jobs"]["test"]["steps"] if "python-version" in s.get("with", {}))
    assert PROJECT["requires-python"] == f">={python}"


def test_every_file_that_contributing_names_is_there() -> None:
    """Paths in backticks, from the root, the package or the tests; one with a placeholder is a file to be written."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`(?:python )?((?:[\w.-]+/)*[\w.-]+\.(?:py|md|toml)|(?:[\w.-]+/)+)`", text))
    assert len(paths) > 20
    for path in paths:
        places = [ROOT / path, ROOT / "core_lightning" / path, *(ROOT / "tests").rglob(path)]
        places += (ROOT / "core_lightning").rglob(path)
        assert any(p.exists() for p in places), path


def test_every_model_and_data_set_of_a_config_has_a_licence_stated() -> None:
    text = (ROOT / "docs/licenses.md").read_text(encoding="utf-8")
    configs = [f.read_text(encoding="utf-8") for f in (ROOT / "configs").rglob("*.yaml")]
    models = {m for c in configs for m in re.findall(r"^\s+model: ([^\s#]+/[^\s#]+)", c, re.MULTILINE)}
    assert len(models) > 5
    for model in models:
        assert (model if model.startswith(("embedded/", "nano/")) else model.split("/")[1]) in text, model
    sources = "".join(f.read_text(encoding="utf-8") for f in (ROOT / "core_lightning/data").glob("*.py"))
    repositories = set(re.findall(r'"((?:openai|qwedsacf|EleutherAI|TianHongZXY|Idavidrein)/[\w.-]+)"', sources))
    hubs = set(re.findall(r'repo: str = "([\w.-]+/[\w.-]+)"', sources))
    assert hubs <= repositories
    assert len(repositories) == 5
    for repository in repositories:
        assert f"`{repository}`" in text


def test_no_entry_of_the_changelog_stands_twice() -> None:
    """A merge brings a passage that was rewritten back."""
    entries = re.findall(r"^- (.{40})", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(entries) > 80
    assert sorted(entries) == sorted(set(entries))
