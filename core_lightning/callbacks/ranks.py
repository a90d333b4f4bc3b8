"""Rows that every process holds a part of, brought together."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed

from core_lightning.training.ranks import arrive

Row = TypeVar("Row")


def gather_rows(rows: list[Row]) -> list[Row]:
    """The rows of all ranks in rank order, on every rank. Every rank must call it, also without rows."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return rows
    arrive()
    parts: list[list[Row]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, rows)
    return [row for part in parts for row in part]
