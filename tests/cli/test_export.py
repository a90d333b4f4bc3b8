"""Trained adapters leave their run: merged, and up to a hub that stands on this machine."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from core_lightning.cli.export import ExportError, export_run
from core_lightning.cli.main import main

TOKEN = "hf_" + "notarealtoken" * 2
FIT = [
    "fit", "--config=configs/nano.yaml", "--data.batch_size=2", "--data.train_size=8", "--data.val_size=3", "--data.test_size=2",
    "--model.peers.a.generation.max_new_tokens=8", "--model.peers.b.generation.max_new_tokens=8", "--model.eval_samples=2",
    "--trainer.max_steps=1", "--trainer.val_check_interval=1", "--trainer.enable_progress_bar=false",
    "--model.peers.a.self_test=false", "--model.peers.b.self_test=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pair"
    main([*FIT, f"--trainer.default_root_dir={folder}"])
    return folder


class ModelHub:
    """What the hub does with a new repository and a commit; large files come in the commit, too."""

    def __init__(self, server: HTTPServer) -> None:
        self.tokens: set[str] = set()
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.url = server.url_for("")
        self.refuse = 0
        server.expect_request(re.compile("/.*")).respond_with_handler(self.answer)

    def answer(self, request: Request) -> Response:
        self.tokens.add(request.headers.get("Authorization", ""))
        if self.refuse:
            return Response(json.dumps({"error": f"no, {TOKEN}"}), self.refuse)
        body = request.get_data()
        if request.path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.private[repo] = bool(asked.get("private")) or asked.get("visibility") == "private"
            return self.json({"url": f"{self.url}/{repo}", "id": repo})
        repo = "/".join(request.path.split("/")[3:5])
        if "/preupload/" in request.path:
            files = [f | {"uploadMode": "regular", "shouldIgnore": False, "oid": None} for f in json.loads(body)["files"]]
            return self.json({"files": files})
        if "/commit/" in request.path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = {v["path"]: base64.b64decode(v["content"]) for v in (x["value"] for x in lines if x["key"] == "file")}
            self.files[repo] = files
            return self.json({"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.url}{repo}/commit/{'0' * 40}"})
        return self.json({"id": repo, "sha": "0" * 40, "siblings": [], "private": False})

    @staticmethod
    def json(content: object) -> Response:
        return Response(json.dumps(content), content_type="application/json")


@pytest.fixture
def hub(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    server = ModelHub(httpserver)
    monkeypatch.setenv("HF_ENDPOINT", server.url.rstrip("/"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return server


def readable_names(folder: Path) -> set[str]:
    assert all(f.stat().st_mode & 0o044 == (folder / "README.md").stat().st_mode & 0o044 for f in folder.iterdir())
    return {f.name for f in folder.iterdir()}


def test_a_run_leaves_adapters_that_can_be_loaded_elsewhere(run: Path) -> None:
    for name in ("a", "b"):
        assert readable_names(run / "adapters" / name) >= {
            "README.md", "card.json", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json",
        }  # fmt: skip
        card = (run / "adapters" / name / "README.md").read_text()
        assert "Q:{question}\nA:" in card
        assert re.search(r"Team Pass@2 \| \d+\.\d \\\[\d", card)
        assert "teacher\\_and\\_rescue" in card
        assert f"| Peer {name} |" in card
        for file in (run / "adapters" / name).glob("*.*"):
            assert str(run.parent).encode() not in file.read_bytes(), file  # no path of the machine it was trained on
    # As the card says.
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from core_lightning.peers.sources import resolve

    model = AutoModelForCausalLM.from_pretrained(resolve("nano/a").name_or_path)
    assert PeftModel.from_pretrained(model, str(run / "adapters" / "a")).peft_config
    assert AutoTokenizer.from_pretrained(run / "adapters" / "a")("1+1")["input_ids"]


def test_merged_and_pushed(
    run: Path, hub: ModelHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "merged"
    # One step moves the adapter by less than sixteen bits can hold.
    export = ["export", "--run", str(run), "--merge", "--dtype=float32", f"--output={out}", "--push=me/pair", "--private"]
    main(export)
    assert readable_names(out / "a") >= {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert hub.files["me/pair-a"] == {f.name: f.read_bytes() for f in (out / "a").iterdir()}
    assert hub.files.keys() == {"me/pair-a", "me/pair-b"}
    assert hub.private == {"me/pair-a": True, "me/pair-b": True}
    assert hub.tokens == {f"Bearer {TOKEN}"}
    shown = capsys.readouterr()
    said = shown.out + shown.err + caplog.text
    assert "me/pair-b" in said
    assert TOKEN not in said
    for file in (f for root in (run, out) for f in root.rglob("*") if f.is_file()):
        assert TOKEN.encode() not in file.read_bytes(), file


def test_an_adapter_as_it_is(run: Path, hub: ModelHub) -> None:
    main(["export", "--run", str(run), "--peer=b", "--push=me/pair"])
    assert hub.files == {"me/pair-b": {f.name: f.read_bytes() for f in (run / "adapters" / "b").iterdir()}}
    assert hub.private == {"me/pair-b": False}


def test_a_hub_that_refuses(run: Path, hub: ModelHub, refused: Callable[..., str]) -> None:
    hub.refuse = 403
    line = refused("export", "--run", str(run), "--push=me/pair")
    assert "push to me/pair-a: the hub did not take it" in line
    assert TOKEN not in line


def test_refusals(run: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    team: Any = SimpleNamespace(peer_configs={"a": None, "b": None})  # nothing that could be loaded

    def why(run: Path = run, **asked: Any) -> str:
        plain = {"peer": None, "merge": False, "push": None, "private": False, "output": None, "dtype": "auto", "tolerance": 1.0}
        with pytest.raises(ExportError) as error:
            export_run(team, None, run, **plain | asked)
        assert "\n" not in str(error.value)
        return str(error.value)

    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert why() == refused("export", f"--run={run}")  # what the command line makes of it
    assert "give --merge" in why()
    assert "set it in the environment as HF_TOKEN" in why(push="me/pair")
    assert "the run has no peer 'c'; choose among a, b" in why(merge=True, peer="c")
    (tmp_path / "out" / "b").mkdir(parents=True)
    assert "out/b is in use" in why(merge=True, output=tmp_path / "out")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "push is 'pair'" in why(push="pair")
    assert "has no adapter of peer 'a'" in why(tmp_path / "bare", merge=True)
    assert "config.yaml" in refused("export", f"--run={tmp_path / 'nothing'}", "--merge")


def test_a_base_of_this_machine_is_not_published(
    config: Callable[..., Path], hub: ModelHub, tmp_path: Path, refused: Callable[..., str]
) -> None:
    # Both peers on one base, in memory as well.
    settings = yaml.safe_load(config(share_base=True).read_text())
    peers = settings["model"]["init_args"]["peers"]
    peers["b"] = peers["a"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    main(["fit", f"--config={tmp_path / 'config.yaml'}", "--trainer.max_steps=1", "--trainer.limit_val_batches=0"])
    run = tmp_path / "run"
    card = (run / "adapters" / "b" / "README.md").read_text()
    assert "A folder of the machine it was trained on, `llama`." in card
    assert str(tmp_path.parent) not in card
    main(["export", f"--run={run}", "--merge", "--tolerance=5", "--dtype=float32", "--peer=b"])
    assert (run / "merged" / "b" / "model.safetensors").is_file()
    assert "is a folder of this machine" in refused("export", f"--run={run}", "--push=me/pair")
    assert hub.files == {}
