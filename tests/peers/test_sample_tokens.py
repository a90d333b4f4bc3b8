from __future__ import annotations

import math

import pytest
import torch

from core_lightning.peers.sampling import drawing
from core_lightning.peers.sampling.drawing import sample_tokens


def nucleus(logits: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Brute force in float64: sort, keep what stands before ``top_p`` of the mass with all its ties, renormalise."""
    p = torch.softmax(logits.double() / temperature, -1)
    kept = torch.zeros_like(p)
    for i in range(len(p)):
        if p[p > p[i]].sum() < top_p:
            kept[i] = p[i]
    return kept / kept.sum()


def draw(logits: torch.Tensor, temperature: float, top_p: float, n: int, step: int = 0) -> torch.Tensor:
    seeds = torch.randint(1 << 62, (n,), generator=torch.Generator().manual_seed(5))
    rows = [
        sample_tokens(logits.expand(len(part), -1), temperature, top_p, part, step)[0] for part in seeds.split(4000)
    ]
    return torch.cat(rows)


def assert_follows(tokens: torch.Tensor, expected: torch.Tensor) -> None:
    """Pearson's chi-square at about five standard deviations, rare tokens put together."""
    n = len(tokens)
    counts = torch.bincount(tokens, minlength=len(expected)).double()
    assert counts[expected == 0].sum() == 0, "a token outside the nucleus was drawn"
    common = expected * n >= 5
    observed, wanted = counts[common], expected[common] * n
    rest = expected[~common].sum() * n
    if rest >= 5:
        observed = torch.cat([observed, counts[~common].sum()[None]])
        wanted = torch.cat([wanted, rest[None]])
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    degrees = len(wanted) - 1
    assert statistic <= degrees + 5 * math.sqrt(2 * degrees) + 10, (statistic, degrees)


def random_logits(vocabulary: int, spread: float = 2.0) -> torch.Tensor:
    return torch.randn(vocabulary, generator=torch.Generator().manual_seed(vocabulary)) * spread


@pytest.mark.parametrize("vocabulary", [7, 512, 1100])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 0.9), (1.5, 0.5), (1.0, 0.1), (2.5, 0.02)])
def test_tokens_follow_the_nucleus(vocabulary: int, temperature: float, top_p: float) -> None:
    logits = random_logits(vocabulary)
    assert_follows(draw(logits, temperature, top_p, 6_000), nucleus(logits, temperature, top_p))


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 0.9), (1.5, 0.5), (2.5, 0.02)])
def test_rows_that_were_drawn_again_are_those_whose_free_draw_lies_outside(temperature: float, top_p: float) -> None:
    """So their share is the mass that the nucleus leaves out: of 8,000, within five standard deviations."""
    logits, seeds = random_logits(700), torch.arange(8_000)
    free, _ = sample_tokens(logits.expand(8_000, -1), temperature, 1.0, seeds, 3)
    padded = torch.full((8_000, drawing.padded_vocabulary(700)), -torch.inf)
    padded[:, :700] = logits
    tokens, _, again = drawing.draw(padded, temperature, top_p, seeds, 3)
    kept = nucleus(logits, temperature, top_p) > 0
    assert torch.equal(again, ~kept[free])
    assert torch.equal(tokens[~again], free[~again])
    missing = 1 - float(torch.softmax(logits.double() / temperature, -1)[kept].sum())
    assert float(again.double().mean()) == pytest.approx(missing, abs=5 * math.sqrt(missing * (1 - missing) / 8_000) + 1e-9)


@pytest.mark.parametrize("place", ["head", "tail", "spread"])
def test_the_sort_that_ends_the_rejections_has_a_number_of_its_own(place: str) -> None:
    """A nucleus of 5 % on one side: most rows are sorted, and the first rejected number says where it was not."""
    vocabulary, top_p = 600, 0.05
    p = torch.full((vocabulary,), 0.945 / (vocabulary - 4), dtype=torch.float64)
    where = {"head": [0, 1, 2, 3], "tail": [596, 597, 598, 599], "spread": [0, 200, 400, 599]}[place]
    p[where] = torch.tensor([0.016, 0.0145, 0.013, 0.0115], dtype=torch.float64)
    expected = nucleus(p.log(), 1.0, top_p)
    assert (expected > 0).sum() == 4
    assert_follows(draw(p.log().float(), 1.0, top_p, 12_000), expected)


@pytest.mark.parametrize("top_p", [0.03, 0.2, 0.9])
def test_tokens_as_likely_as_the_last_one_of_the_nucleus_belong_to_it(top_p: float) -> None:
    p = torch.cat([torch.tensor([0.02]), torch.full((30,), 0.01), torch.full((340,), 0.002)]).double()
    p = p[torch.randperm(len(p), generator=torch.Generator().manual_seed(0))]
    expected = nucleus(p.log(), 1.0, top_p)
    assert int((expected > 0).sum()) == {0.03: 31, 0.2: 31, 0.9: 371}[top_p]
    assert_follows(draw(p.log().float(), 1.0, top_p, 12_000), expected)


def test_equal_logits_are_all_in_the_nucleus() -> None:
    assert_follows(draw(torch.zeros(40), 1.0, 0.01, 4_000), torch.full((40,), 1 / 40).double())


@pytest.mark.parametrize("number", [0.0, 0.25, 0.5, 1 - 2**-53])
@pytest.mark.parametrize("top_p", [1.0, 0.3])
def test_no_number_picks_a_token_of_weight_zero(number: float, top_p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masked tokens at the head, in the middle and through all of the last blocks."""
    logits = torch.full((1600,), -torch.inf)
    logits[[3, 600, 601]] = torch.tensor([0.0, 1.0, -30.0])
    monkeypatch.setattr(drawing, "uniform", lambda seeds, counter: torch.full((len(seeds),), number).double())
    token, logprob = sample_tokens(logits[None], 1.0, top_p, torch.tensor([1]), 0)
    assert int(token) in {3, 600, 601}
    assert torch.isfinite(logprob).all()


def test_logprobs_are_those_of_the_full_distribution_at_the_temperature() -> None:
    logits = random_logits(900).expand(64, -1)
    tokens, logprobs = sample_tokens(logits, 0.7, 0.8, torch.arange(64), 4)
    full = torch.log_softmax(logits.double() / 0.7, -1)
    torch.testing.assert_close(logprobs.double(), full.gather(1, tokens[:, None])[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("top_p", [1.0, 0.6, 0.05])
def test_a_row_does_not_depend_on_its_batch(top_p: float) -> None:
    logits = torch.stack([random_logits(777) * (1 + i / 10) for i in range(12)])
    seeds = torch.arange(100, 112)
    together, _ = sample_tokens(logits, 1.0, top_p, seeds, 3)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    shuffled, _ = sample_tokens(logits[order], 1.0, top_p, seeds[order], 3)
    alone = torch.cat([sample_tokens(logits[i : i + 1], 1.0, top_p, seeds[i : i + 1], 3)[0] for i in range(12)])
    assert together.tolist() == alone.tolist()
    assert together[order].tolist() == shuffled.tolist()


def test_neighbouring_steps_draw_anew() -> None:
    """With tiny nuclei every step uses several numbers; none is used by two steps."""
    used: list[int] = []

    def record(seeds: torch.Tensor, counter: int) -> torch.Tensor:
        used.append(counter)
        return torch.full((len(seeds),), 0.999, dtype=torch.float64)

    logits = torch.zeros(1, 1000)
    logits[0, :2] = torch.tensor([3.0, 2.9])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "uniform", record)
        for step in range(3):
            sample_tokens(logits, 1.0, 0.01, torch.tensor([1]), step)
    assert len(used) == len(set(used)) == 3 * 9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_read_in_float32(dtype: torch.dtype) -> None:
    logits = random_logits(800).to(dtype)
    assert_follows(draw(logits, 0.9, 0.7, 8_000), nucleus(logits.float(), 0.9, 0.7))
