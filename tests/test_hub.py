from __future__ import annotations

import socket
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from core_lightning import hub


def waiting(server: socket.socket) -> socket.socket | None:
    """The next call that nobody has taken yet."""
    try:
        return server.accept()[0]
    except BlockingIOError:
        return None


def test_a_hub_that_never_answers_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config
    from huggingface_hub import constants

    monkeypatch.setattr(hub, "PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and says nothing
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        assert hub.offline_if_unreachable()  # would wait forever
        assert constants.HF_HUB_OFFLINE
        assert datasets.config.HF_HUB_OFFLINE
        silent.setblocking(False)
        asked = list(iter(partial(waiting, silent), None))
        assert asked
        assert hub.offline_if_unreachable()  # known by now
        assert waiting(silent) is None
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as answering:
        Thread(target=answering.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{answering.server_port}")
        assert not hub.offline_if_unreachable()
        assert not constants.HF_HUB_OFFLINE
        assert not datasets.config.HF_HUB_OFFLINE
        answering.shutdown()
