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


#: Whether the clients are kept offline from here, not by the user's own setting.
_kept_offline = False


def offline_if_unreachable(endpoint: str | None = None) -> bool:
    """Have the clients of the hub look into their cache only, if the hub does not answer within seconds.

    Each address is asked once; where another one answers, the clients are online again.

    Args:
        endpoint: Address of the hub; None for that of models.

    Returns:
        Whether they do now; also where the user asked for that.
    """
    global _kept_offline  # noqa: PLW0603  # as is the switch of the clients
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE and not _kept_offline:
        return True
    constants.HF_HUB_OFFLINE = False  # else the client does not ask
    silent = not _answers(endpoint or constants.ENDPOINT)
    if silent or _kept_offline:
        import datasets.config

        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = _kept_offline = silent
    return silent
