"""The peers of these tests say what a script tells them, unless a test asks for the sampler."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripted_engine import saying, sums


@pytest.fixture(autouse=True, scope="module")
def scripted() -> Iterator[None]:
    with saying(sums):
        yield
