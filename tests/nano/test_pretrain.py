"""The pretraining script, its tokenizers, and the shipped pair."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from core_lightning.nano import nano_folder
from core_lightning.nano.__main__ import main
from core_lightning.nano.evaluate import count_correct, load
from core_lightning.nano.pretrain import RECIPES, Knowledge, build_tokenizer, examples
from core_lightning.nano.tasks import TASKS, solve, split_of

TOKENIZERS = {name: build_tokenizer(recipe) for name, recipe in RECIPES.items()}
PRINTABLE = st.text(st.sampled_from([chr(c) for c in range(32, 127)] + ["\n"]))


@given(text=PRINTABLE, name=st.sampled_from(sorted(TOKENIZERS)))
def test_tokenizer_round_trip(text: str, name: str) -> None:
    tokenizer = TOKENIZERS[name]
    assume(not any(special in text for special in tokenizer.all_special_tokens))  # read as what they name
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text


def test_ids_of_the_two_tokenizers_are_not_exchangeable() -> None:
    a, b = (TOKENIZERS[name]("0123456789", add_special_tokens=False).input_ids for name in "ab")
    assert sum(x == y for x, y in zip(a, b, strict=True)) <= 1


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_examples_leak_neither_held_out_questions_nor_missing_facts(name: str) -> None:
    recipe = replace(RECIPES[name], partial=0.0, drills=0.0)
    known = Knowledge(recipe, random.Random(0))
    agreement: dict[tuple[bool, bool], list[bool]] = {}
    for prompt, completion in itertools.islice(examples(recipe, random.Random(0)), 1500):
        question = prompt.split("\n")[0].removeprefix("Q:")
        assert split_of(question) == "train"
        steps, _, answer = completion.partition(" #### ")
        if hinted := "\nH:" in prompt:
            assert prompt == f"Q:{question}\nH:{steps}\nA:"
        believed = iter([int(step.split("=")[1]) for step in steps.split()])

        def check(operation: str, x: int, y: int, carry: int, hinted: bool = hinted, believed=believed) -> int:
            value = next(believed)
            gold = solve(f"{x}{operation}{y}")[0][0] if operation in "@&" else None
            right = int(gold[-1]) == value if gold else value == (x + y if operation == "+" else x * y) + carry
            agreement.setdefault((hinted, (operation, x, y) in known.missing), []).append(right)
            return value

        assert solve(question, check)[1] == answer
    rate = {key: sum(right) / len(right) for key, right in agreement.items()}
    assert rate[False, False] == 1
    # Nine values to guess from: everything else is a guess, hinted facts that the peer knows included.
    for key in ((False, True), (True, False), (True, True)):
        assert rate[key] == pytest.approx(1 / 9, abs=0.05)


def test_peers_miss_few_strong_and_many_weak_facts() -> None:
    for recipe in RECIPES.values():
        missing = Knowledge(recipe, random.Random(1)).missing
        for operation in "+*@&":
            total = {"+": 100, "*": 40, "@": 81, "&": 81}[operation]
            share = sum(fact[0] == operation for fact in missing) / total
            expected = recipe.missing_strong if operation in recipe.strong else recipe.missing_weak
            assert share == pytest.approx(expected, abs=0.01)


def test_pretraining_is_seeded_and_writes_plain_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, seed in (("first", 1), ("again", 1), ("other", 2)):
        main(["--out", str(tmp_path / folder), "--steps", "3", "--peers", "b", "--seed", str(seed)])
    assert capsys.readouterr().out.count("loss") == 3
    first, again, other = (load(tmp_path / folder / "b")[0].state_dict() for folder in ("first", "again", "other"))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_bad_recipes_and_calls_are_refused() -> None:
    with pytest.raises(ValueError, match=r"missing_weak: 1\.5 is not a share"):
        replace(RECIPES["a"], missing_weak=1.5)
    with pytest.raises(ValueError, match=r"nano/c.*nano/a"):
        nano_folder("nano/c")
    with pytest.raises(SystemExit):
        main([])


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_shipped_peers_load_and_are_small(name: str) -> None:
    model, tokenizer = load(nano_folder(f"nano/{name}"))
    assert type(model).__name__.lower().startswith(RECIPES[name].architecture)
    assert model.dtype == torch.float32
    assert model.num_parameters() < 1_000_000
    assert (nano_folder(f"nano/{name}") / "model.safetensors").stat().st_size < 1_000_000
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    text = "Q:3@7\nH:~\nA:3@7=1 #### 1"
    assert tokenizer(text).input_ids == TOKENIZERS[name](text).input_ids


def test_shipped_peers_have_complementary_skills_and_follow_hints() -> None:
    size = 100
    cold = {name: count_correct(nano_folder(name), size, n=1, greedy=True) for name in "ab"}
    rate = {
        name: {task: sum(counts[i :: len(TASKS)]) / (size / len(TASKS)) for i, task in enumerate(TASKS)}
        for name, counts in cold.items()
    }
    for strong, weak, tasks in (("a", "b", ("add", "at")), ("b", "a", ("mul", "amp"))):
        for task in tasks:
            assert rate[strong][task] >= rate[weak][task] + 0.25
    assert 0 < sum(not (a or b) for a, b in zip(*cold.values(), strict=True)) < size // 2
    for name in "ab":
        assert sum(count_correct(nano_folder(name), size, n=1, greedy=True, hinted=True)) > 0.8 * size
