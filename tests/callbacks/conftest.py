from __future__ import annotations

from collections.abc import Iterator

import pytest

from core_lightning.report import evaluation


@pytest.fixture(scope="module")
def few_resamples() -> Iterator[None]:
    """Short bootstraps for tests that are not about intervals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "RESAMPLES", 50)
        yield
