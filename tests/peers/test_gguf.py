from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch

pytest.importorskip("gguf")
import transformers

from core_lightning.peers import LoraSettings, Peer, PeerConfig, PeerSourceError, sources
from core_lightning.peers.sources import resolve
from naive import Scored
from tiny_gguf import write_gguf


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CORE_LIGHTNING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really converted."""
    done: list[Path] = []
    real = sources._convert
    monkeypatch.setattr(sources, "_convert", lambda gguf, *rest: (done.append(gguf), real(gguf, *rest))[1])
    return done


def test_a_gguf_file_becomes_the_model_it_was_written_from(cache: Path, tmp_path: Path) -> None:
    original = write_gguf(tmp_path / "tiny.gguf")
    peer = Peer(
        "a",
        PeerConfig(str(tmp_path / "tiny.gguf"), quantization="none", dtype="float32", lora=LoraSettings(r=2)),
        torch.device("cpu"),
    )
    ids = [0, 70, 75, 80, 259, 90]
    with torch.no_grad():
        ours = peer.logprobs([Scored(ids[:2], ids[2:])])[0][0]
        logits = original(torch.tensor([ids])).logits[0] / peer.config.generation.temperature
    expected = torch.log_softmax(logits[1:-1], -1).gather(1, torch.tensor(ids[2:])[:, None])[:, 0]
    torch.testing.assert_close(ours, expected, atol=0.02, rtol=0)
    assert expected.std() > 0.5
    assert peer.stop_ids == {1}
    text = "12 + 3 = 15"
    assert peer.tokenizer.decode(peer.tokenizer(text)["input_ids"]) == text
    in_the_file = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="tiny.gguf")
    for text in ("12 + 3", "  é\n\t12<eos>12", "<bos> 1 2 <pad>"):
        assert peer.tokenizer(text).input_ids == in_the_file(text).input_ids
    assert peer.tokenizer.special_tokens_map == in_the_file.special_tokens_map
    assert peer.tokenizer.padding_side == in_the_file.padding_side


@pytest.mark.parametrize("template", [None, "{{ messages[0]['content'] }}é"])
def test_a_converted_tokenizer_is_what_the_library_makes_of_the_folder(
    cache: Path, tmp_path: Path, template: str | None
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    folder = Path(resolve(str(tmp_path / "tiny.gguf")).name_or_path)
    if template:
        (folder / "chat_template.jinja").write_text(template)
    ours = sources.converted_tokenizer(str(folder))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert type(ours) is type(theirs)
    assert ours.chat_template == theirs.chat_template == template
    for name in ("special_tokens_map", "added_tokens_decoder", "padding_side", "model_max_length", "name_or_path"):
        assert str(getattr(ours, name)) == str(getattr(theirs, name)), name
    assert ours("<bos>12 + é").input_ids == theirs("<bos>12 + é").input_ids
    assert sources.converted_tokenizer(str(tmp_path)) is None


def test_a_conversion_is_made_once_and_belongs_to_the_content(
    cache: Path, tmp_path: Path, conversions: list[Path]
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    first = resolve(str(tmp_path / "tiny.gguf"))
    assert resolve(str(tmp_path / "tiny.gguf")) == first
    assert len(conversions) == 1
    assert [p.name for p in cache.iterdir()] == [Path(first.name_or_path).name]  # nothing half-made beside it
    write_gguf(tmp_path / "tiny.gguf", seed=1)  # another model under the same name
    assert resolve(str(tmp_path / "tiny.gguf")) != first
    assert len(conversions) == 2


@pytest.mark.parametrize("moment", ["weights", "tokenizer"])
def test_an_interrupted_conversion_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    owner = transformers.PreTrainedModel if moment == "weights" else transformers.PreTrainedTokenizerBase
    real = owner.save_pretrained

    def interrupted(self: object, folder: Path, *args: object, **options: object) -> None:
        real(self, folder, *args, **options)  # everything is written, but the call does not come back
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, "save_pretrained", interrupted)
        with pytest.raises(KeyboardInterrupt):
            resolve(str(tmp_path / "tiny.gguf"))
    assert list(cache.iterdir()) == []
    folder = Path(resolve(str(tmp_path / "tiny.gguf")).name_or_path)
    assert (folder / "tokenizer.json").is_file()


@pytest.mark.parametrize("victim", ["model.safetensors", "tokenizer.json", "conversion.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_cache_is_converted_again(
    cache: Path, tmp_path: Path, conversions: list[Path], victim: str, damage: str
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    folder = Path(resolve(str(tmp_path / "tiny.gguf")).name_or_path)
    whole = (folder / victim).read_bytes()
    if damage == "truncated":
        (folder / victim).write_bytes(whole[: len(whole) // 2])
    else:
        (folder / victim).unlink()
    assert Path(resolve(str(tmp_path / "tiny.gguf")).name_or_path) == folder
    assert len(conversions) == 2
    assert (folder / victim).stat().st_size == len(whole)
    assert list(cache.iterdir()) == [folder]


def test_two_processes_may_convert_at_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both see no cache, both convert; the slower one takes the folder of the faster one."""
    write_gguf(tmp_path / "tiny.gguf")
    gate = threading.Barrier(2)
    monkeypatch.setattr(sources, "_convert", lambda gguf, folder, model: ((folder / "x").write_text("1"), gate.wait()))
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(resolve(str(tmp_path / "tiny.gguf")).name_or_path))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert len(set(found)) == 1
    assert json.loads((Path(found[0]) / "conversion.json").read_text())["sizes"] == {"x": 1}


@pytest.mark.parametrize("damage", ["another format", "truncated head", "truncated weights", "empty"])
def test_a_damaged_file(cache: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "another format": b"PK\x03\x04" + whole[4:],
            "truncated head": whole[:3000],
            "truncated weights": whole[:-5000],
            "empty": b"",
        }[damage]
    )
    with pytest.raises(PeerSourceError) as error:
        resolve(str(path))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert "download it again" in str(error.value)
    assert not cache.exists() or not list(cache.iterdir())
