"""What is read from elsewhere is data: no pickle, no code that comes with a model, no file but the one that is known."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core_lightning import PeerConfig
from core_lightning.peers import sources
from core_lightning.peers.adapters import check_start
from core_lightning.peers.loading import load_base, load_tokenizer
from core_lightning.peers.sources import ModelSource, PeerSourceError

PACKAGE = Path(__file__).parents[1] / "core_lightning"
#: Modules whose reading of a file, or whose call, can run what is written there.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile", "__import__"}
UNSAFE_YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What a syntax tree does that may run what it reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"imports {n}" for n in names if n.partition(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        called, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        owner, _, name = called.rpartition(".")
        if called in CALLS or (owner == "yaml" and name in UNSAFE_YAML):
            yield called
        if called == "torch.load" and options.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if options.get("shell") == "True" or called == "os.system":
            yield "a shell"
        if options.get("allow_pickle") == "True":
            yield "allow_pickle"
        told = None in options or options.get("trust_remote_code") == "False"  # None: with others, by a mapping
        if name == "from_pretrained" and owner.startswith("Auto") and not told:
            yield f"{called} without trust_remote_code=False"


def test_the_search_finds_what_it_is_for() -> None:
    text = """
import pickle
from dill import loads
eval("1")
yaml.load(x)
torch.load(x, weights_only=False)
subprocess.run("ls", shell=True)
AutoModel.from_pretrained(x)
numpy.load(x, allow_pickle=True)
model.eval()
yaml.safe_load(x)
"""
    assert len(list(unsafe(ast.parse(text)))) == 8


def test_no_file_runs_what_it_reads() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    found = {str(f): list(unsafe(ast.parse(f.read_text(encoding="utf-8")))) for f in files}
    assert len(found) > 100
    assert {f: u for f, u in found.items() if u} == {}


class Unpickled:
    """Classes that unpickling looked up while this was on."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.on = True
        sys.addaudithook(self._hear)  # stays for good, and is deaf afterwards

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.on and event == "pickle.find_class":
            self.found.append(".".join(map(str, arguments[-2:])))


@pytest.fixture
def unpickled() -> Iterator[Unpickled]:
    listener = Unpickled()
    yield listener
    listener.on = False


def test_a_model_is_read_without_unpickling(llama_folder: Path, unpickled: Unpickled) -> None:
    import pickle

    pickle.loads(pickle.dumps(Path("x")))
    assert len(unpickled.found) == 1  # it hears
    load_base(PeerConfig(str(llama_folder), quantization="none"), ModelSource(str(llama_folder), local=True), torch.device("cpu"))
    load_tokenizer(ModelSource(str(llama_folder), local=True))
    assert len(unpickled.found) == 1


class Runs:
    """Leaves a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def copy_with(folder: Path, target: Path, **settings: object) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    config = json.loads((target / "config.json").read_text()) | settings
    (target / "config.json").write_text(json.dumps(config))
    return target


def test_weights_in_pickle_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    folder, mark = copy_with(llama_folder, tmp_path / "model"), tmp_path / "it ran"
    (folder / "model.safetensors").unlink()
    torch.save({"x": Runs(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(PeerSourceError, match=r"it cannot be read: it has no weights in safetensors; give a copy that has"):
        load_base(PeerConfig(str(folder), quantization="none"), ModelSource(str(folder), local=True), torch.device("cpu"))
    assert not mark.exists()


def test_code_of_a_model_is_not_run(llama_folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    folder = copy_with(llama_folder, tmp_path / "model", model_type="own", auto_map=classes)
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass OwnConfig: ...\nclass OwnModel: ...\n")
    with pytest.raises(PeerSourceError, match="it needs Python code of its own, which is not run; give a model that"):
        load_base(PeerConfig(str(folder), quantization="none"), ModelSource(str(folder), local=True), torch.device("cpu"))
    assert not mark.exists()


def test_an_adapter_in_pickle_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    torch.save({"x": Runs(mark)}, tmp_path / "adapter_model.bin")
    with pytest.raises(PeerSourceError, match=r"is stored as adapter_model\.bin, a format that can run code"):
        check_start("a", tmp_path)
    assert not mark.exists()


def test_an_embedded_model_is_known_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORE_LIGHTNING_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "other.gguf"
    file.write_bytes(b"GGUF of somebody else")
    with pytest.raises(PeerSourceError, match=r"has SHA-256 296f42caecfb\.\.\., and 000000000000\.\.\. is the one"):
        sources._converted(file, "embedded/x", "0" * 64)
    assert not (tmp_path / "cache").exists()
