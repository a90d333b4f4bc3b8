"""What a command would run with, as ``--print_config`` says it; asked once for every set of arguments."""

from __future__ import annotations

import functools
import io
from contextlib import redirect_stdout
from typing import Any

import pytest
import yaml

from core_lightning.cli.main import main


def settings_of(*arguments: str) -> dict[str, Any]:
    """The effective settings of ``fit`` with these arguments."""
    return yaml.safe_load(printed(*arguments))


@functools.cache
def printed(*arguments: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(SystemExit) as stop:
        main(["fit", *arguments, "--print_config"])
    assert stop.value.code == 0
    return out.getvalue()
