"""Products through oneDNN equal float64 products, and step aside where they have no kernel or gradients are wanted."""

from __future__ import annotations

import pytest
import torch

from core_lightning.peers.products import frozen_linear


@pytest.mark.parametrize("rows", [1, 8, 33])
@pytest.mark.parametrize("biased", [False, True])
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
