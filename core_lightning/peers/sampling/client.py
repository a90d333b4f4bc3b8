"""Requests to a serving engine: sent again while that may help, and failed in one line that says what to do."""

from __future__ import annotations

import json
import os
from typing import Any

from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError

from core_lightning.peers.sampling.settings import ServerSettings

#: Busy, or a proxy whose server is just being started again.
_PASSING = (429, 502, 503, 504)


class ServerError(ValueError):
    """A server is away, or refuses what it is asked for; one line that names the peer, the address and the mend."""


class ServerAnswerError(ServerError):
    """A server answered, with a status that says no.

    Args:
        status: The HTTP status.
        message: The whole line.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ServerClient:
    """JSON over HTTP, from any number of threads.

    Args:
        peer: Name of the peer, for messages.
        settings: Address, time-outs and retries.
    """

    def __init__(self, peer: str, settings: ServerSettings) -> None:
        self.peer = peer
        self.settings = settings
        self._url = settings.url.rstrip("/")
        key = os.environ.get(settings.api_key_env)
        self._pool = PoolManager(
            maxsize=settings.concurrency,
            headers={"Authorization": f"Bearer {key}"} if key else None,
            timeout=Timeout(connect=settings.connect_timeout, read=settings.timeout),
            retries=Retry(
                settings.retries,
                redirect=False,
                allowed_methods=None,  # the same request gives the same completion, so it may be sent twice
                status_forcelist=_PASSING,
                backoff_factor=0.5,
                raise_on_status=False,
            ),
        )

    def get(self, path: str) -> Any:
        """The decoded answer.

        Raises:
            ServerError: No answer, or not the right one.
        """
        return self._ask("GET", path)

    def post(self, path: str, body: dict[str, Any], **options: Any) -> Any:
        """The decoded answer to a JSON body; ``options`` are urllib3's.

        Raises:
            ServerError: No answer, or not the right one.
        """
        return self._ask("POST", path, json=body, **options)

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._pool.request(method, self._url + path, **options)
        except HTTPError as error:
            reason = error.reason if isinstance(error, MaxRetryError) else error
            raise ServerError(
                f"{self._whose} does not answer ({_plain(reason)}); start it, or set generation.server.url"
            ) from error
        try:
            content = json.loads(answer.data)
        except ValueError:
            content = answer.data.decode(errors="replace")  # an adapter's loading is answered with a plain sentence
        if answer.status in (401, 403):
            raise ServerAnswerError(
                answer.status,
                f"{self._whose} refuses the key; put the right one into the environment variable "
                f"{self.settings.api_key_env}",
            )
        if answer.status != 200:
            raise ServerAnswerError(answer.status, f"{self._whose} answers {answer.status}: {_message(content)}")
        return content

    @property
    def _whose(self) -> str:
        return f"peer {self.peer!r}: the server at {self._url}"


def _message(content: Any) -> str:
    """What the server says about an error, as one line."""
    for key in ("error", "message", "detail"):
        if isinstance(content, dict) and content.get(key):
            content = content[key]
    return " ".join(str(content).split())[:300]


def _plain(reason: object) -> str:
    """What a library says about a connection, without the objects it says it about."""
    text = str(reason)
    return " ".join((text.rpartition(">: ")[2] or text).split())[:200] or type(reason).__name__
