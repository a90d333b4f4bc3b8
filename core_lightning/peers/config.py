"""Settings of one peer. Every value is checked when the config is read, before any model is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal, get_args

from core_lightning.peers.sampling.settings import ServerSettings, VllmSettings

Quantization = Literal["nf4", "int8", "none"]
ComputeDtype = Literal["auto", "bfloat16", "float16", "float32"]
PromptStyle = Literal["auto", "chat", "plain"]
EngineName = Literal["native", "vllm", "server"]
SamplingWeights = Literal["own", "dense", "half"]
Compute = Literal["native", "plain"]

#: Projections of attention and feed-forward, as in the published recipe.
ATTENTION_AND_MLP = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

#: What :meth:`apply_chat_template` is called with here, or would read as a setting of its own.
TEMPLATE_ARGUMENTS = frozenset(
    {
        *("conversation", "messages", "chat_template", "tokenize", "add_generation_prompt", "continue_final_message"),
        *("padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"),
        *("tokenizer_kwargs", "sanitize_control_tokens", "strftime_now"),
    }
)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class LoraSettings:
    """The low-rank adapter that is trained; everything else stays frozen."""

    r: int = 16
    """Rank of the update."""
    alpha: float = 32
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = 0.0
    """Dropout on the adapter's input. Above 0, the loss sees another distribution than the sampler did."""
    targets: list[str] | str = field(default_factory=lambda: list(ATTENTION_AND_MLP))
    """Names of the layers that get an adapter, or "all-linear"."""

    def __post_init__(self) -> None:
        _require(self.r >= 1, f"lora.r is {self.r}; set it to 1 or more")
        _require(self.alpha > 0, f"lora.alpha is {self.alpha}; set it above 0")
        _require(0 <= self.dropout < 1, f"lora.dropout is {self.dropout}; set it in [0, 1)")
        _require(bool(self.targets), "lora.targets is empty; name the layers to adapt, or all-linear")


@dataclass(frozen=True)
class GenerationSettings:
    """How a peer samples."""

    temperature: float = 0.7
    """Sampling temperature. Log-probabilities are computed at the same temperature."""
    top_p: float = 1.0
    """Nucleus: only the likeliest tokens that together have this probability are sampled. Below 1 (the paper: 0.9) samples
    come from this smaller set, while the loss uses the full distribution; ``train/<peer>/outside_nucleus`` tells the
    probability that is left out. With the engines vllm and server the objective corrects for that."""
    max_new_tokens: int = 512
    """Longest completion, in tokens."""
    max_prompt_tokens: int = 1536
    """Longest prompt, in tokens. Problems with a longer plain prompt are left out and counted; a hint is cut until its
    prompt fits."""
    stop: list[str] = field(default_factory=list)
    """Strings that end a completion, beside the end tokens of the model. A stop string is not part of the text."""
    max_batch_tokens: int = 65_536
    """Most tokens of one sampling batch, prompts and completions together. It bounds the memory of the key-value cache."""
    engine: EngineName = "native"
    """What samples. ``native``: this library. ``vllm``: a vLLM that this process starts. ``server``: a vLLM server."""
    server: ServerSettings = field(default_factory=ServerSettings)
    """Where the server of ``engine: server`` is."""
    vllm: VllmSettings = field(default_factory=VllmSettings)
    """The vLLM of ``engine: vllm``."""
    cuda_graphs: bool = True
    """Record a decoding step on a GPU once and replay it (CUDA graphs), where the model allows it. Without it, small models
    wait for the processor that launches each operation."""

    def __post_init__(self) -> None:
        _require(self.temperature > 0, f"generation.temperature is {self.temperature}; set it above 0")
        _require(0 < self.top_p <= 1, f"generation.top_p is {self.top_p}; set it in (0, 1]")
        _require(self.max_new_tokens >= 1, f"generation.max_new_tokens is {self.max_new_tokens}; set it to 1 or more")
        _require(
            self.max_prompt_tokens >= 1,
            f"generation.max_prompt_tokens is {self.max_prompt_tokens}; set it to 1 or more",
        )
        _require(all(self.stop), "generation.stop holds an empty string, which would end every completion; remove it")
        _require(
            self.max_batch_tokens >= 1, f"generation.max_batch_tokens is {self.max_batch_tokens}; set it to 1 or more"
        )
        self._check_engine()

    def room(self, context: int | None) -> int:
        """Longest prompt in tokens: the setting, or what a context of so many tokens leaves beside a completion."""
        return self.max_prompt_tokens if context is None else min(self.max_prompt_tokens, context - self.max_new_tokens)

    def _check_engine(self) -> None:
        _require(
            self.engine in get_args(EngineName),
            f"generation.engine is {self.engine!r}; choose native, vllm or server",
        )
        if self.engine == "vllm":
            _require(
                find_spec("vllm") is not None,
                "generation.engine is vllm, which is not installed: pip install 'core-lightning[vllm]', or choose native",
            )


@dataclass(frozen=True)
class PeerConfig:
    """One language model of the team."""

    model: str
    """Hub id, local folder, path of a ``.gguf`` file, ``embedded/<name>`` (installed as a package) or ``nano/<name>``."""
    revision: str | None = None
    """Commit, tag or branch of a hub model."""
    adapter: str | None = None
    """Folder of an adapter in PEFT format to start from. The KL divergence is then measured from this adapter, not from
    the base model alone."""
    quantization: Quantization = "nf4"
    """How the frozen weights of the base are stored: ``nf4``, 4-bit NormalFloat; ``int8``; ``none``, as they are."""
    dtype: ComputeDtype = "auto"
    """Number type the base computes in, and is stored in unless it is quantized. ``auto`` is bfloat16 where the device has
    instructions for it, and float32 elsewhere. The adapter is always float32."""
    device: str = "auto"
    """Where the peer is: ``auto`` is the trainer's device, ``cuda:1`` or ``cpu`` places it by hand. ``own`` is a GPU that
    nobody else has, beside those of the trainer, another one in every process."""
    lora: LoraSettings = field(default_factory=LoraSettings)
    """The adapter that is trained."""
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    """How the peer samples."""
    lr: float | None = None
    """Learning rate of this peer; unset, that of the optimizer."""
    prompt_style: PromptStyle = "auto"
    """``chat``: prompts go through the tokenizer's chat template. ``plain``: they are text. ``auto``: chat if there is a
    template."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the chat template, such as ``enable_thinking: false`` or ``reasoning_effort: low``."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third more time."""
    sampling_weights: SamplingWeights = "own"
    """Which weights sampling reads. ``own``: those of the layers. ``dense``: unpacked copies in an order that suits few
    rows, made for a round and then dropped. ``half``: float16 copies, made once and kept, the fastest on an x86
    processor without instructions for bfloat16 (elsewhere: dense copies that are kept)."""
    score_batch_tokens: int = 16_384
    """Most token positions that a part of the loss keeps for its gradient, padding included. Lower it if memory runs out;
    the result is the same. (A prompt's position that is cached for one more completion counts as an eighth.)"""
    compute: Compute = "native"
    """How layers are run. ``native``: attention, adapters, norms and the output layer in this library's own way, which is
    faster and takes less memory. ``plain``: as transformers and PEFT have them, on public operators of torch alone, to see
    whether a result depends on it."""
    self_test: bool = True
    """At load, compare what is sampled and scored with plain passes of the model, and leave out short cuts that differ."""

    def __post_init__(self) -> None:
        _require(bool(self.model.strip()), "peers.<name>.model is empty; name a hub id, a folder or embedded/<name>")
        _require(
            self.quantization in ("nf4", "int8", "none"),
            f"quantization is {self.quantization!r}; choose nf4, int8 or none",
        )
        _require(
            self.dtype in ("auto", "bfloat16", "float16", "float32"),
            f"dtype is {self.dtype!r}; choose auto, bfloat16, float16 or float32",
        )
        _require(
            self.sampling_weights in get_args(SamplingWeights),
            f"sampling_weights is {self.sampling_weights!r}; choose own, dense or half",
        )
        taken = sorted(TEMPLATE_ARGUMENTS & self.chat_template_kwargs.keys())
        _require(
            not taken,
            f"chat_template_kwargs sets {taken[0] if taken else ''!r}, which this library gives; leave it out",
        )
        _require(self.lr is None or self.lr > 0, f"peers.<name>.lr is {self.lr}; set it above 0 or leave it out")
        _require(self.compute in get_args(Compute), f"compute is {self.compute!r}; choose native or plain")
        _require(
            self.compute == "native" or self.sampling_weights == "own",
            f"sampling_weights is {self.sampling_weights}, whose copies have layers of this library's; leave it at own for "
            "compute plain",
        )
        engine = self.generation.engine
        _require(
            engine not in ("vllm", "server") or self.sampling_weights == "own",
            f"sampling_weights is {self.sampling_weights}; leave it at own for generation.engine {engine}, which samples "
            "from weights of its own",
        )
        _require(self.score_batch_tokens >= 1, f"score_batch_tokens is {self.score_batch_tokens}; set it to 1 or more")
