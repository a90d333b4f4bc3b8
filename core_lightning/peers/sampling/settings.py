"""Settings of the engines that run outside this process or keep a model of their own."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class ServerSettings:
    """Where the server of ``generation.engine: server`` is, and how it is spoken to.

    It is vLLM's OpenAI-compatible server, which loads adapters while it runs. Several peers of one base model may use one.
    """

    url: str = "http://127.0.0.1:8000"
    """Address without ``/v1``."""
    model: str | None = None
    """Name under which the server has the base model; unset, it must be the peer's own. Its numbers are compared with
    the peer's own either way."""
    api_key_env: str = "VLLM_API_KEY"
    """Environment variable that holds the key, if the server wants one. The key itself is never part of the settings."""
    adapter_folder: str | None = None
    """Folder through which adapters are handed over; the server must see it under the same path. Unset, a temporary
    folder of this machine."""
    concurrency: int = 64
    """Completions that are asked for at the same time; the server batches them."""
    connect_timeout: float = 10.0
    """Seconds to wait for a connection."""
    timeout: float = 600.0
    """Seconds to wait for one completion."""
    retries: int = 5
    """How often a request that failed is sent again, after 0, 1, 2, 4, ... seconds."""
    tolerance: float | None = None
    """Largest mean difference between the server's log-probabilities and the peer's own, in nats a token, looked at after
    every change of the adapter. Unset, 0.1; 0.5 for a peer whose base is quantized while the server's is not."""

    def __post_init__(self) -> None:
        def require(condition: bool, name: str, mend: str) -> None:
            if not condition:
                raise ValueError(f"generation.server.{name} is {getattr(self, name)!r}; {mend}")

        parts = urlsplit(self.url)
        if parts.username or parts.password:  # not repeated in the message
            raise ValueError(
                f"generation.server.url holds a name or password; put the key into the variable {self.api_key_env}"
            )
        require(parts.scheme in ("http", "https") and bool(parts.netloc), "url", "give http://host:port")
        require(not parts.path.strip("/"), "url", "leave out the path, /v1 is added")
        require(self.concurrency >= 1, "concurrency", "set it to 1 or more")
        require(self.connect_timeout > 0, "connect_timeout", "set it above 0")
        require(self.timeout > 0, "timeout", "set it above 0")
        require(self.retries >= 0, "retries", "set it to 0 or more")
        require(self.tolerance is None or self.tolerance > 0, "tolerance", "set it above 0 or leave it out")


@dataclass(frozen=True)
class VllmSettings:
    """The vLLM of ``generation.engine: vllm``, which runs beside the training process and holds a copy of the base model."""

    memory_share: float = 0.4
    """Share of the device's memory for its weights and cache; the peer that is trained needs the rest."""
    devices: str | None = None
    """GPUs by number, as in ``CUDA_VISIBLE_DEVICES``: ``"1"`` or ``"2,3"``. Unset, the peer's own."""
    tensor_parallel: int = 1
    """GPUs one copy of the model is spread over."""
    sleep: bool = False
    """Give the device's memory back while the peers learn: weights wait in main memory, the cache is dropped."""
    tolerance: float | None = None
    """As in ``generation.server``."""

    def __post_init__(self) -> None:
        def require(condition: bool, name: str, mend: str) -> None:
            if not condition:
                raise ValueError(f"generation.vllm.{name} is {getattr(self, name)!r}; {mend}")

        require(0 < self.memory_share <= 1, "memory_share", "set it in (0, 1]")
        require(self.tensor_parallel >= 1, "tensor_parallel", "set it to 1 or more")
        require(
            self.devices is None or all(d.strip().isdigit() for d in self.devices.split(",")),
            "devices",
            "give numbers with commas between them",
        )
        require(
            self.tensor_parallel == 1
            or (self.devices is not None and self.devices.count(",") + 1 == self.tensor_parallel),
            "tensor_parallel",
            "name as many GPUs in generation.vllm.devices",
        )
        require(self.tolerance is None or self.tolerance > 0, "tolerance", "set it above 0 or leave it out")
