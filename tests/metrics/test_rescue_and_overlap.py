"""Rescue rate on a hand-made table, error overlap against NumPy's correlation."""

import numpy as np
import pytest
import torch

from core_lightning.metrics import ErrorOverlap, RescueRate, error_overlap, rescue_rate


def test_rate_counts_pairs_with_a_hint_only() -> None:
    hinted = torch.tensor([[True, False], [True, True], [False, False]])
    rescued = torch.tensor([[True, False], [False, False], [False, False]])
    assert rescue_rate(rescued, hinted).item() == pytest.approx(1 / 3)
    metric = RescueRate()
    for row in range(3):
        metric.update(rescued[row], hinted[row])
    assert metric.compute().item() == pytest.approx(1 / 3)


def test_no_hint_no_rate() -> None:
    assert rescue_rate(torch.tensor([False]), torch.tensor([False])).isnan()


def test_a_rescue_without_a_hint_is_an_error() -> None:
    with pytest.raises(ValueError, match="without a hint"):
        rescue_rate(torch.tensor([True, True]), torch.tensor([True, False]))


@pytest.mark.parametrize("peers", [2, 3])
def test_phi_is_the_mean_pairwise_pearson_correlation(peers: int) -> None:
    failed = torch.rand(200, peers, generator=torch.Generator().manual_seed(peers)) < torch.linspace(0.2, 0.7, peers)
    correlations = np.corrcoef(failed.numpy().astype(float), rowvar=False)
    expected = np.mean([correlations[a, b] for a in range(peers) for b in range(a)])
    overlap = error_overlap(failed)
    assert overlap["phi"].item() == pytest.approx(expected, abs=1e-12)
    assert overlap["all_fail"].item() == pytest.approx(failed.numpy().all(1).mean())
    metric = ErrorOverlap(peers)
    for part in failed.split(64):
        metric.update(part)
    assert metric.compute()["phi"].item() == pytest.approx(expected, abs=1e-12)


def test_complementary_and_identical_failures_are_the_extremes() -> None:
    fails = torch.tensor([True, False, True, False, False])
    assert error_overlap(torch.stack([fails, ~fails], 1))["phi"].item() == pytest.approx(-1)
    assert error_overlap(torch.stack([fails, fails], 1))["phi"].item() == pytest.approx(1)


def test_many_samples_of_problems_at_once_are_looked_at_one_by_one() -> None:
    failed = torch.rand(4, 5, 30, 3, generator=torch.Generator().manual_seed(0)) < 0.4
    failed[1, 2, :, 0] = False  # one peer that never fails
    failed[3, 3] = True  # nobody has a phi
    together = error_overlap(failed)
    for i in range(4):
        for j in range(5):
            alone = error_overlap(failed[i, j])
            assert torch.equal(together["all_fail"][i, j], alone["all_fail"])
            assert torch.allclose(together["phi"][i, j], alone["phi"], rtol=0, atol=0, equal_nan=True)


def test_a_peer_that_never_fails_has_no_phi_and_spoils_no_other_pair() -> None:
    never, a, b = torch.tensor([[False, True, True], [False, False, True], [False, True, False]]).T
    assert error_overlap(torch.stack([never, a], 1))["phi"].isnan()
    alone = error_overlap(torch.stack([a, b], 1))["phi"]
    assert error_overlap(torch.stack([never, a, b], 1))["phi"] == alone


def test_wrong_number_of_peers_is_refused() -> None:
    with pytest.raises(ValueError, match="2 peers"):
        ErrorOverlap(peers=2).update(torch.zeros(4, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="at least 2"):
        ErrorOverlap(peers=1)
