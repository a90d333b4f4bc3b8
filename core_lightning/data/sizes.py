"""How many problems a source that makes them is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping

from core_lightning.data.errors import DataError
from core_lightning.data.splits import Split

#: Some gigabytes of problems, and minutes to make them.
MOST = 1_000_000


def check_sizes(sizes: Mapping[Split, int]) -> None:
    """Refuse a size that cannot be, or that fills the memory.

    Raises:
        DataError: Names the setting and the mend.
    """
    if sizes["train"] < 1 or min(sizes.values()) < 0:
        raise DataError(f"data.train_size must be at least 1, and no size negative, got {dict(sizes)}")
    for split, size in sizes.items():
        if size > MOST and not os.environ.get("CORE_LIGHTNING_LARGE"):
            raise DataError(
                f"data.{split}_size is {size:,}; problems are made before training, so set it to {MOST:,} or less "
                "(CORE_LIGHTNING_LARGE=1 tries anyway)"
            )
