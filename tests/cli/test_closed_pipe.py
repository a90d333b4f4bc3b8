"""A reader that has enough ends a command without a word; any other broken pipe is a fault."""

import os
import subprocess
import sys

import pytest

from core_lightning.cli.endings import until_nobody_reads

unix = pytest.mark.skipif(not hasattr(os, "fork"), reason="pipes of Unix")
PRINTS = "from core_lightning.cli import main as m; m.compare = lambda _: print('a table'); m.main(['compare'])"


@unix
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_nobody_reads(stream: str) -> None:
    """A table, and the line of an error."""
    reader, writer = os.pipe()
    os.close(reader)
    command = ["-c", PRINTS] if stream == "stdout" else ["-m", "core_lightning", "compare"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: writer}
    ended = subprocess.run([sys.executable, *command], check=False, **streams)
    os.close(writer)
    assert (ended.returncode, ended.stdout or b"", ended.stderr or b"") == (141, b"", b"")


@unix
def test_another_broken_pipe_is_raised() -> None:
    with pytest.raises(BrokenPipeError), until_nobody_reads():
        raise BrokenPipeError
