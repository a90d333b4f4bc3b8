"""Whether the model hub answers at all, found out once and soon: its clients would each try for up to a minute."""

from __future__ import annotations

from functools import cache
from threading import Thread

PATIENCE = 8.0
"""Seconds."""


@cache
def _answers(endpoint: str) -> bool:
    from huggingface_hub.utils import get_session

    heard: list[int] = []

    def ask() -> None:
        try:
            heard.append(get_session().head(endpoint, timeout=PATIENCE).status_code)
        except Exception:  # of whatever client there is: nobody answers
            return

    # In a thread: looking up a name has no time limit of its own.
    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return bool(heard)


def offline_if_unreachable() -> bool:
    """Have the clients of the hub look into their cache only, if the hub does not answer within seconds.

    Returns:
        Whether they do now; also where the user asked for that.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and not _answers(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True
        import datasets.config

        datasets.config.HF_HUB_OFFLINE = True
    return bool(constants.HF_HUB_OFFLINE)
