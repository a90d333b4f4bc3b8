from __future__ import annotations

import socket
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from core_lightning import hub


def test_a_hub_that_never_answers_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config
    from huggingface_hub import constants

    monkeypatch.setattr(hub, "PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and says nothing
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        began = time.monotonic()
        assert hub.offline_if_unreachable()
        assert time.monotonic() - began < 8  # it is two seconds at most, on a busy machine too
        assert constants.HF_HUB_OFFLINE
        assert datasets.config.HF_HUB_OFFLINE
        began = time.monotonic()
        assert hub.offline_if_unreachable()  # known by now
        assert time.monotonic() - began < 1
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as answering:
        Thread(target=answering.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{answering.server_port}")
        assert not hub.offline_if_unreachable()
        assert not constants.HF_HUB_OFFLINE
        assert not datasets.config.HF_HUB_OFFLINE
        answering.shutdown()
