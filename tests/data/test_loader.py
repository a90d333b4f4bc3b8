"""Order, sharding and state of the loader, without a trainer."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_lightning.data import DataError, ProblemLoader, TrainLoader
from core_lightning.records import Problem


def problems(count: int) -> list[Problem]:
    return [Problem(str(i), f"{i}?", str(i)) for i in range(count)]


def ids(loader: ProblemLoader) -> list[list[str]]:
    return [[p.id for p in batch] for batch in loader]


@given(st.integers(0, 30), st.integers(1, 4), st.integers(1, 4))
def test_evaluation_gives_every_problem_to_exactly_one_rank(count: int, batch_size: int, world: int) -> None:
    ranks = [ProblemLoader(problems(count), batch_size, rank, world) for rank in range(world)]
    batches = [ids(loader) for loader in ranks]
    assert sorted(int(i) for rank in batches for batch in rank for i in batch) == list(range(count))
    assert [len(rank) for rank in batches] == [len(loader) for loader in ranks]
    assert all(len(batch) <= batch_size for rank in batches for batch in rank)
    # A rank without a problem has an empty batch: without any, Lightning would leave the evaluation out on that rank alone.
    assert all(rank[0] == [] if i >= count else all(rank) for i, rank in enumerate(batches) if count)
    assert all(not rank for rank in batches) or count


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 4))
def test_training_gives_every_rank_a_batch_at_every_step(count: int, batch_size: int, world: int) -> None:
    ranks = [TrainLoader(problems(count), batch_size, 7, rank, world) for rank in range(world)]
    batches = [ids(loader) for loader in ranks]
    assert len({len(rank) for rank in batches} | {len(loader) for loader in ranks}) == 1
    assert all(batch for rank in batches for batch in rank)
    flat = [i for rank in batches for batch in rank for i in batch]
    assert set(flat) == {str(i) for i in range(count)}
    assert len(flat) - count < world


def test_a_step_is_the_same_problems_for_any_number_of_processes() -> None:
    one = ids(TrainLoader(problems(22), 4, 3))
    two = [ids(TrainLoader(problems(22), 2, 3, rank, 2)) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*two, strict=True)] == [sorted(step) for step in one]


def test_order_depends_on_seed_and_epoch_only() -> None:
    loader = TrainLoader(problems(20), 4, seed=1)
    first = ids(loader)
    assert ids(loader) == first
    loader.set_epoch(1)
    assert ids(loader) != first
    assert ids(TrainLoader(problems(20), 4, seed=2)) != first
    loader.set_epoch(0)
    assert ids(loader) == first
    assert ids(TrainLoader(problems(5), 2)) == [["0", "1"], ["2", "3"], ["4"]]


@pytest.mark.parametrize("taken", range(6))
def test_state_continues_at_the_next_batch_once(taken: int) -> None:
    loader = TrainLoader(problems(10), 2, seed=5)
    loader.set_epoch(3)
    batches = iter(loader)
    for _ in range(taken):
        next(batches)
    again = TrainLoader(problems(10), 2, seed=5)
    again.load_state_dict(loader.state_dict())
    iter(again)  # Lightning makes one it does not use
    whole = ids(loader)
    assert ids(again) == whole[taken:]
    assert ids(again) == whole


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))
def test_a_look_ahead_is_the_next_batch(count: int, batch_size: int, world: int, rank: int) -> None:
    loader = TrainLoader(problems(count), batch_size, 5, rank % world, world)
    after = TrainLoader(problems(count), batch_size, 5, rank % world, world)
    after.set_epoch(1)
    first_after = next(iter(after))
    whole = list(loader)
    for step, _ in enumerate(loader):
        state = loader.state_dict()
        assert loader.peek() == (whole[step + 1] if step + 1 < len(whole) else first_after)
        assert loader.peek(next_epoch=True) == first_after
        assert loader.state_dict() == state


@given(st.integers(1, 20), st.integers(1, 3), st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_further_problems_are_new_to_their_step_and_come_round(count: int, batch_size: int, draws: list[int]) -> None:
    loader = TrainLoader(problems(count), batch_size, 5)
    batches, seen = iter(loader), Counter[str]()
    for asked in draws:
        step = next(batches, None)
        if step is None:
            break
        held = {p.id for p in step}
        drawn, number = loader.further(asked)
        new = [p.id for p in drawn]
        assert len(new) == len(set(new)) == number == min(asked, count - len(held))
        assert not held & set(new)
        seen.update(new)
    # A problem that was passed over in its step is one behind at most.
    turns = -(-loader.drawn // count)
    assert all(times <= turns for times in seen.values())


def test_an_unfinished_pass_does_not_shorten_the_next() -> None:
    loader = TrainLoader(problems(6), 2)
    next(iter(loader))
    assert ids(loader) == [["0", "1"], ["2", "3"], ["4", "5"]]


def test_state_of_another_step_size_or_data_size_is_refused() -> None:
    loader = TrainLoader(problems(10), 2)
    next(iter(loader))
    with pytest.raises(DataError, match=r"2 problems .* now 4"):
        TrainLoader(problems(10), 4).load_state_dict(loader.state_dict())
    with pytest.raises(DataError, match="10 training problems when saved, now 9"):
        TrainLoader(problems(9), 2).load_state_dict(loader.state_dict())
    with pytest.raises(DataError, match=r"as given \(data.shuffle false\) when saved, now it is drawn with seed 3; keep"):
        TrainLoader(problems(10), 2, 3).load_state_dict(loader.state_dict())
    list(loader)
    TrainLoader(problems(10), 2, 3).load_state_dict(loader.state_dict())
    TrainLoader(problems(10), 4).load_state_dict(loader.state_dict())  # between epochs it may change
