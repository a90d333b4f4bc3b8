"""Products through oneDNN equal float64 products, and step aside where they have no kernel or gradients are wanted."""

from __future__ import annotations

import pytest
import torch

from core_lightning.peers.compute import products
from core_lightning.peers.compute.products import frozen_linear, has_kernel, pays

SMALL = products._SMALL


@pytest.fixture(autouse=True, params=["oneDNN", "BLAS"])
def kernel(request: pytest.FixtureRequest, no_weight_is_small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here holds on both sides of the line."""
    if request.param == "BLAS":
        monkeypatch.setattr(products, "_SMALL", SMALL)


def test_large_weights_go_to_onednn_and_small_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_SMALL", SMALL)
    large, small = torch.empty(1024, SMALL // 1024), torch.empty(1023, SMALL // 1024)
    assert pays(large) == has_kernel(large)
    assert not pays(small)
    assert not pays(large.to("meta"))
    assert not pays(large.double())


def test_a_float32_weight_takes_bfloat16_rows() -> None:
    """As under autocast: the product is made in the type of the weight, and returned in that of the rows."""
    x, weight = torch.randn(4, 24).bfloat16(), torch.randn(40, 24)
    product = frozen_linear(x, weight)
    assert product.dtype == torch.bfloat16
    torch.testing.assert_close(product.double(), x.double() @ weight.double().T, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("rows", [1, 8, 33])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_equal_float64(rows: int, biased: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(rows)
    x, weight = torch.randn(2, rows, 24).to(dtype), torch.randn(40, 24).to(dtype)
    bias = torch.randn(40).to(dtype) if biased else None
    oracle = x.double() @ weight.double().T + (0.0 if bias is None else bias.double())
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    product = frozen_linear(x, weight, bias)
    assert product.dtype == dtype
    torch.testing.assert_close(product.double(), oracle, rtol=tolerance, atol=tolerance)


def test_gradients_flow_where_they_are_wanted() -> None:
    x, weight = torch.randn(3, 5, requires_grad=True), torch.randn(7, 5)
    frozen_linear(x, weight).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(3, 5))


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_equal_float64(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(4, 24).to(dtype).requires_grad_(), torch.randn(40, 24).to(dtype)
    pull = torch.randn(4, 40).to(dtype)
    frozen_linear(x, weight).backward(pull)
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(x.grad.double(), pull.double() @ weight.double(), rtol=tolerance, atol=tolerance)
