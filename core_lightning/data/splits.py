"""Disjoint train, val and test by question text, and the near-duplicates that exact disjointness cannot see."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from itertools import groupby
from math import ceil
from typing import Literal

from core_lightning.answers import canonical_answer, infer_kind
from core_lightning.answers.equality import bare_gold
from core_lightning.records import Problem

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def normalised(question: str) -> str:
    """Question text as identity: Unicode form, case and white space do not make a new problem, signs and digits do.

    >>> normalised("Compute 3² + 1") == normalised("compute  32 + 1"), normalised("ｘ") == normalised("X")
    (False, True)
    """
    runs = ((raised, "".join(run)) for raised, run in groupby(question, _raised))
    return _plain("".join(run if raised else unicodedata.normalize("NFKC", run) for raised, run in runs))


@cache
def _raised(character: str) -> bool:
    """Whether it stands above or below the line, or makes one: in the plain form a power would be a longer number."""
    form = unicodedata.decomposition(character).partition(" ")[0]
    return form in ("<super>", "<sub>", "<fraction>", "<circle>")


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def words(question: str) -> list[str]:
    """The words and signs of a question, in order."""
    return re.findall(r"\w+|[^\w\s]", normalised(question))


def twins(question: str) -> tuple[str, ...]:
    """What questions have in common that differ in the order of their words only, as 3 + 5 and 5 + 3 do."""
    return tuple(sorted(words(question)))


def hash_order(problems: Sequence[Problem], seed: int) -> list[Problem]:
    """Problems in an order that depends on the seed and their text only, not on where they stood in the source."""

    def key(problem: Problem) -> tuple[bytes, str]:
        text = _plain(unicodedata.normalize("NFKC", problem.question))  # a run keeps the splits it began with
        return sha256(f"{seed}:{text}".encode()).digest(), problem.id

    return sorted(problems, key=key)


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


def disagreements(problems: Mapping[Split, Sequence[Problem]]) -> list[tuple[Problem, Problem]]:
    """Problems whose question stood before with another answer, each with the one before.

    Args:
        problems: Splits as a source has them; what is held out comes before what is trained on.
    """
    first: dict[str, Problem] = {}
    found = []
    for problem in (p for split in ("test", "val", "train") for p in problems.get(split, ())):
        before = first.setdefault(normalised(problem.question), problem)
        if before.answer != problem.answer and _read(before) != _read(problem):
            found.append((before, problem))
    return found


def _read(problem: Problem) -> object:
    """The gold answer in the form in which 2 and 2.0 are one; as it stands where it cannot be read."""
    gold = bare_gold(problem.answer)
    return canonical_answer(gold, infer_kind(gold) if problem.kind == "auto" else problem.kind) or problem.answer


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
