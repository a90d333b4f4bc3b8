"""One language model of the team: it encodes prompts, samples, scores traces and owns its adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core_lightning.peers.adapters import adapter_name, adapter_parameters, describe, reference_name, save_adapter
from core_lightning.peers.assembly import adapted, dropouts, fix_rotary_positions, prepare_layers
from core_lightning.peers.completion_texts import CompletionTexts
from core_lightning.peers.compute.architecture import backbone_of
from core_lightning.peers.compute.attention import leave_to_library
from core_lightning.peers.compute.head import LogitHead, is_head_of
from core_lightning.peers.compute.paths import Paths
from core_lightning.peers.compute.shortening import shortened
from core_lightning.peers.config import GenerationSettings, PeerConfig
from core_lightning.peers.encoding import PromptEncoder
from core_lightning.peers.loading import load_tokenizer, runs_on_text, stop_token_ids
from core_lightning.peers.sampling.drawing import NotFiniteError
from core_lightning.peers.sampling.engine import Engine, Rig, SampledTokens
from core_lightning.peers.sampling.sampler import Sampler
from core_lightning.peers.scoring import scorer
from core_lightning.peers.scoring.packing import Sequenced
from core_lightning.peers.scoring.scorer import Policy, Scored
from core_lightning.peers.sources import ModelSource, PeerSourceError, resolve
from core_lightning.peers.turns import Shards
from core_lightning.protocol.prompts import Prompt
from core_lightning.protocol.rollout_peer import Completion


class Peer(nn.Module):
    """A frozen base model with a trainable adapter.

    Args:
        name: Name in the team.
        config: Where the model comes from and how it is used.
        device: Where it lives, unless ``config.device`` says otherwise.
        base: A peer whose base model this one shares; only the adapter is added.

    Raises:
        PeerSourceError: The model or the adapter cannot be found, read or fitted.
    """

    tokenizer: Any
    network: Any  # a PEFT model; many of its attributes are its base model's

    def __init__(self, name: str, config: PeerConfig, device: torch.device, base: Peer | None = None) -> None:
        super().__init__()
        self.name = name
        self.config = config
        self.device = device if config.device == "auto" else torch.device(config.device)
        self.shards: Shards | None = None  # set by who shards it
        self.beginning: Any = None  # what has been read of all prompts, see reading
        self._halved = False
        source = resolve(config.model, config.revision)
        self.tokenizer = base.tokenizer if base else load_tokenizer(source)
        self.network, self.base_name = adapted(name, config, source, self.device, base.network if base else None)
        self._dropouts = dropouts(self.network, name)
        self.head = prepare_layers(name, config, self.network)
        self._prepare_texts()
        self._check_head()
        with runs_on_text(self._whose, "go on from a cache, and so not be sampled"):
            self.paths = Paths.of(self.backbone)
        self.sampler = Sampler(self._rig(source), config, self.backbone)
        #: What a user should know of this peer, a line each.
        self.notes = [
            describe(self.network, name),
            *fix_rotary_positions(name, config, self.network, self.room()),
        ]

    @property
    def _whose(self) -> str:
        return f"peer {self.name!r}: {self.config.model}"

    def _prepare_texts(self) -> None:
        """How texts become tokens and back, and which tokens end a completion."""
        model: Any = self.network.get_base_model()
        self.stop_ids = stop_token_ids(self.tokenizer, model)
        vocabulary = model.get_input_embeddings().weight.shape[0]
        self.encoder = PromptEncoder(self.tokenizer, self.config, self.name, vocabulary)
        self.chats = self.encoder.chats
        self.texts = CompletionTexts(self.tokenizer, self.encoder, self.stop_ids)

    def _check_head(self) -> None:
        """Refuse a model whose logits come from something else beside its head."""
        with self.policy("reference"):
            with runs_on_text(self._whose):
                known = is_head_of(self.head, self.network, self.backbone, self.device)
            if not known:
                raise PeerSourceError(f"{self._whose} has an output layer this library does not know; please report it")

    def _rig(self, source: ModelSource) -> Rig:
        """What an engine may use of this peer."""
        return Rig(
            self.name,
            self.network.get_base_model(),
            self.head,
            self.tokenizer,
            self.stop_ids,
            source.name_or_path,
            source.revision,
            self.network.peft_config[adapter_name(self.name)].r,
            self.paths,
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Peer:
        # A peer stays on the device its settings name: a module-wide .to() would gather all peers on one,
        # and would cast or unpack quantized weights.
        return self

    def train(self, mode: bool = True) -> Peer:
        """Keep evaluation mode: rollouts and scores must see one and the same network; :meth:`logprobs` switches itself."""
        self.training = mode
        return self

    @property
    def engine(self) -> Engine:
        """What samples; one of your own can be put in its place."""
        return self.sampler.engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        self.sampler.engine = engine

    @property
    def samples_itself(self) -> bool:
        """Whether samples come from this peer's own network, not from another process."""
        return self.sampler.in_process

    def run_plainly(self) -> None:
        """Run every layer as the library has it, from now on: no attention, adapter, norm or copy of weights of our own."""
        leave_to_library(self.network)
        self.sampler.run_plainly()

    @contextmanager
    def shortened(self) -> Iterator[None]:
        """Be a peer of few layers and tokens for a while, which shows the same faults sooner."""
        head, model = self.head, self.network.get_base_model()
        with shortened(self.backbone, model.get_output_embeddings()):
            self.head = LogitHead.of(model, head.plain)
            try:
                with self.sampler.with_head(self.head):
                    yield
            finally:
                self.head = head

    @property
    def training_mode(self) -> bool:
        """Whether the adapter drops out."""
        return any(layer.training for layer in self._dropouts)

    @training_mode.setter
    def training_mode(self, training: bool) -> None:
        # Set before every use and not restored after: layers may run again in the backward pass.
        for layer in self._dropouts:
            layer.training = training

    def evaluate(self) -> None:
        """Leave the mode in which the adapter drops out."""
        self.training_mode = False

    # --- adapter ------------------------------------------------------------------------------------------------------

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Trainable weights by name; names are stable across runs."""
        return adapter_parameters(self.network, self.name)

    @contextmanager
    def policy(self, policy: Policy = "own") -> Iterator[None]:
        """Run the network as this peer, or as its reference: the adapter it started from, or none."""
        if policy == "own":
            self.network.set_adapter(adapter_name(self.name))
            yield
        elif self.config.adapter is not None:
            self.network.set_adapter(reference_name(self.name))
            try:
                yield
            finally:
                self.network.set_adapter(adapter_name(self.name))
        else:
            with self.network.disable_adapter():
                yield

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter into a folder in PEFT format; ``PeftModel.from_pretrained(base, folder)`` reads it."""
        save_adapter(self.network, self.name, folder)

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer with its chat template beside the adapter, for those who load it elsewhere."""
        self.tokenizer.save_pretrained(str(folder))

    # --- rollout ------------------------------------------------------------------------------------------------------

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, through the chat template if this peer chats; see :class:`PromptEncoder`."""
        return self.encoder.encode(prompt)

    def end_at(self, mark: str | None) -> None:
        """End plain completions at this string, too: where a base model goes on with a question of its own."""
        self.texts.end_at(mark)

    @property
    def generation(self) -> GenerationSettings:
        """How this peer samples, with every string that ends its completions."""
        return self.texts.ended(self.config.generation)

    def in_own_words(self, text: str, prompt_ids: Sequence[int]) -> str:
        """Somebody else's completion as this peer would have written it behind a prompt."""
        return self.texts.in_own_words(text, prompt_ids, self.config.generation)

    def encode_completion(self, text: str) -> list[int]:
        """Token ids of somebody else's completion as this peer would write it, its end included."""
        return self.texts.encode(text, self.config.generation)

    def room(self) -> int:
        """Longest prompt in tokens: the setting, or what the context leaves beside a completion."""
        context = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        return self.config.generation.room(context)

    def cut(self, text: str, tokens: int) -> str:
        """The text's longest beginning of at most so many tokens."""
        return self.encoder.text.cut(text, tokens)

    def completion_room(self) -> int:
        """Longest completion in tokens."""
        return self.config.generation.max_new_tokens

    def sample(
        self,
        prompts: Sequence[list[int]],
        seeds: Sequence[Sequence[int]],
        *,
        temperature: float | None = None,
        top_p: float | None = None,
    ) -> list[list[Completion]]:
        """Completions of every prompt, one per seed, in one batched call: as :meth:`begin`, waited for."""
        return self.begin(prompts, seeds, temperature=temperature, top_p=top_p)()

    def begin(
        self,
        prompts: Sequence[list[int]],
        seeds: Sequence[Sequence[int]],
        *,
        temperature: float | None = None,
        top_p: float | None = None,
    ) -> Callable[[], list[list[Completion]]]:
        """Begin to sample completions of every prompt, one per seed; what is returned waits for them.

        An engine in another process makes them meanwhile. The adapter must not move before they were waited for.

        A completion's text begins with the mark of the think block its prompt ended in: one that breaks off inside
        the block has no answer.

        Args:
            prompts: Token ids of each prompt.
            seeds: For each prompt one seed per completion.
            temperature: Of this call; unset, the peer's own.
            top_p: Nucleus of this call; unset, the peer's own.
        """
        own = self.generation
        settings = replace(
            own,
            temperature=own.temperature if temperature is None else temperature,
            top_p=own.top_p if top_p is None else top_p,
        )
        changes = [p._version for p in self.adapter_parameters().values()]  # counted in place
        self.sampler.sync(changes, self.save_adapter)
        opened = [self.encoder.opened(prompt) for prompt in prompts]
        drawn = self._begun(prompts, seeds, settings)
        return lambda: [
            [
                Completion(
                    s.token_ids, mark + self.texts.decode(s.token_ids, own), not s.stopped, s.logprobs, s.redrawn
                )
                for s in group
            ]
            for mark, group in zip(opened, drawn(), strict=True)
        ]

    def draw(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings
    ) -> list[list[SampledTokens]]:
        """Token ids of completions of every prompt, one per seed, with the adapter that the engine has."""
        return self._begun(prompts, seeds, settings)()

    def _begun(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]], settings: GenerationSettings
    ) -> Callable[[], list[list[SampledTokens]]]:
        # Weights of shards lie elsewhere each time they are whole.
        return partial(self._wait, self.sampler.begin(prompts, seeds, settings, stays=self.shards is None))

    def _wait(self, begun: Callable[[], list[list[SampledTokens]]]) -> list[list[SampledTokens]]:
        self.evaluate()
        try:
            sharded = self.shards if self.samples_itself else None
            with self.policy(), sharded.whole() if sharded else nullcontext(), self.sampling_weights():
                return begun()
        except NotFiniteError as error:
            broken = [n for n, p in self.adapter_parameters().items() if not bool(p.isfinite().all())]
            where = f"the adapter is not finite in {broken[0]}" if broken else "the adapter's weights are finite"
            raise NotFiniteError(
                f"peer {self.name!r} cannot sample: {error}; {where}; go on from the last checkpoint with a lower learning "
                "rate, or with another dtype"
            ) from error

    def sampling_weights(self, adapter: bool = True) -> AbstractContextManager[None]:
        """Run the network from copies of its weights, if the settings ask for that; without gradients."""
        return self.sampler.weights(adapter_name(self.name) if adapter else None)

    # --- scoring ------------------------------------------------------------------------------------------------------

    def micro_batches(self, sequences: Sequence[Sequenced], given: int = 0) -> list[list[int]]:
        """Indices cut by the token budget, in the way that leaves least to compute; ``given`` tokens are run before."""
        return scorer.micro_batches_of(self, sequences, given)

    def halve_micro_batches(self) -> bool:
        """Score half as many tokens at a time from here on, once; False where that was done before."""
        if self._halved:
            return False
        self._halved = True
        self.config = replace(self.config, score_batch_tokens=max(1, self.config.score_batch_tokens // 2))
        return True

    def common_beginning(self, sequences: Sequence[Sequenced]) -> list[int]:
        """First tokens of all prompts that :meth:`reading` can run once; empty where that does not pay."""
        return scorer.common_beginning_of(self, sequences)

    def reading(self, beginning: Sequence[int]) -> AbstractContextManager[None]:
        """Score with gradients the sequences of several batches, with what all their prompts begin with run once.

        Gradients reach the adapter in full only when the context is left.
        """
        return scorer.reading(self, beginning)

    def logprobs(
        self,
        sequences: Sequence[Sequenced],
        policy: Policy = "own",
        *,
        entropy_grad: bool = False,
        temperature: float | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Score completions token by token, at the sampling temperature, under the prompts they are credited to.

        Args:
            sequences: One micro-batch.
            policy: The peer itself, or the reference it is kept near.
            entropy_grad: Let gradients flow through the entropies.
            temperature: That all of them were sampled at; unset, the peer's own.

        Returns:
            Log-probabilities and entropies, ``float32 Tensor[traces, tokens]`` with 0 behind the end of a completion,
            and the ``bool Tensor[traces, tokens]`` mask of completion tokens.
        """
        return scorer.logprobs(self, sequences, policy, entropy_grad=entropy_grad, temperature=temperature)

    def likelihoods(self, prompts: Sequence[list[int]], completions: Sequence[list[int]]) -> list[float]:
        """Mean log-probability per token of each completion under its prompt, in nats, at the sampling temperature."""
        return scorer.likelihoods(self, prompts, completions)

    @property
    def backbone(self) -> Any:
        """The transformers model without its head, adapters on it."""
        return backbone_of(self.network.get_base_model())


__all__ = ["Peer", "PeerSourceError", "Policy", "Scored", "Sequenced"]
