"""Disjoint train, val and test by question text, and the near-duplicates that exact disjointness cannot see."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import ceil
from typing import Literal

from core_lightning.records import Problem

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def normalised(question: str) -> str:
    """Question text as identity: Unicode form, case and white space do not make a new problem, signs and digits do."""
    return " ".join(unicodedata.normalize("NFKC", question).casefold().split())


def words(question: str) -> list[str]:
    """The words and signs of a question, in order."""
    return re.findall(r"\w+|[^\w\s]", normalised(question))


def twins(question: str) -> tuple[str, ...]:
    """What questions have in common that differ in the order of their words only, as 3 + 5 and 5 + 3 do."""
    return tuple(sorted(words(question)))


def hash_order(problems: Sequence[Problem], seed: int) -> list[Problem]:
    """Problems in an order that depends on the seed and their text only, not on where they stood in the source."""
    return sorted(problems, key=lambda p: (sha256(f"{seed}:{normalised(p.question)}".encode()).digest(), p.id))


def take(problems: Sequence[Problem], count: int, seed: int) -> list[Problem]:
    """A seeded subset, in source order."""
    chosen = {p.id for p in hash_order(problems, seed)[:count]}
    return [p for p in problems if p.id in chosen]


def assign_splits(
    problems: Mapping[Split, Sequence[Problem]], seed: int, val_fraction: float, test_fraction: float
) -> tuple[dict[Split, list[Problem]], int]:
    """Make train, val and test disjoint by question text; carve from train what the source has no official split for.

    An official test split stays as it is; val loses what stands in test; train loses what stands in either, and its own
    repeats.

    Args:
        problems: Official splits, ``train`` at least.
        seed: Decides which problems are carved.
        val_fraction: Share of train that becomes val where there is no official one; at least one problem if positive.
        test_fraction: The same for test.

    Returns:
        The three splits, each in source order, and how many problems were dropped.
    """
    splits: dict[Split, list[Problem]] = {split: list(problems.get(split, ())) for split in SPLITS}
    before = sum(map(len, splits.values()))
    held = {normalised(p.question) for p in splits["test"]}
    splits["val"] = [p for p in splits["val"] if normalised(p.question) not in held]
    held |= {normalised(p.question) for p in splits["val"]}
    pool: dict[str, Problem] = {}
    for problem in splits["train"]:
        if (key := normalised(problem.question)) not in held:
            pool.setdefault(key, problem)
    train = list(pool.values())
    dropped = before - len(train) - len(splits["val"]) - len(splits["test"])

    order, taken = hash_order(train, seed), 0
    carved: list[tuple[Split, float]] = [("val", val_fraction), ("test", test_fraction)]
    for split, fraction in carved:
        if split not in problems and fraction > 0:
            size = max(1, round(fraction * len(train)))
            chosen = {p.id for p in order[taken : taken + size]}
            splits[split] = [p for p in train if p.id in chosen]
            taken += size
    kept = {p.id for p in order[taken:]}
    splits["train"] = [p for p in train if p.id in kept]
    return splits, dropped


def near_duplicates(
    queries: Sequence[Problem], corpus: Sequence[Problem], threshold: float = 0.9
) -> list[tuple[str, str]]:
    """Queries whose set of words almost equals that of a corpus problem, each with the first such problem.

    Jaccard similarity of word sets at or above the threshold. Exact, by prefix filtering (Chaudhuri et al. 2006): two
    sets that similar share one of the rarest ``size - ceil(threshold * size) + 1`` words of either, the only indexed.

    Args:
        queries: Usually the validation and test splits.
        corpus: Usually the train split.
        threshold: In (0, 1].

    Returns:
        ``(query id, corpus id)`` pairs, at most one for each query.
    """
    bags = [frozenset(words(p.question)) for p in (*corpus, *queries)]
    frequency = Counter(word for bag in bags for word in bag)

    def prefix(bag: frozenset[str]) -> list[str]:
        rarest = sorted(bag, key=lambda word: (frequency[word], word))
        # The margin keeps rounding of the product from shortening the prefix.
        return rarest[: len(bag) - ceil(threshold * len(bag) - 1e-9) + 1]

    index: dict[str, list[int]] = defaultdict(list)
    for row, bag in enumerate(bags[: len(corpus)]):
        for word in prefix(bag):
            index[word].append(row)
    found = []
    for query, bag in zip(queries, bags[len(corpus) :], strict=True):
        candidates = sorted({row for word in prefix(bag) for row in index[word]})
        twin = next((r for r in candidates if len(bag & bags[r]) >= threshold * len(bag | bags[r]) - 1e-9), None)
        if twin is not None:
            found.append((query.id, corpus[twin].id))
    return found
