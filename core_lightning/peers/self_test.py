"""A peer's numbers at load, beside plain passes of its model: one row alone, no cache, nothing shared, no layer replaced.

Sampling and scoring take short cuts that are exact for most models and silently wrong for some: padding in the middle of a
row, a cache whose rows are copied, positions that are given, layers that run in another way. Which models these are cannot
be told by their names, so some tokens go through the real paths when a peer is loaded. A short cut that differs is left out
for this model; a model that differs without any short cut is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature
from math import isnan

import torch
from torch import Tensor, nn

from core_lightning.peers.compute.attention import library_layers
from core_lightning.peers.compute.prefill import SHORTEST_PREFIX
from core_lightning.peers.config import PeerConfig
from core_lightning.peers.loading import runs_on_text
from core_lightning.peers.peer import Peer
from core_lightning.peers.sources import PeerSourceError, first_line

#: How far a log-probability may be from that of a plain pass, in nats for logits with a spread of 1 (larger logits round
#: in larger steps), by the type the base computes in.
NATS = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
#: How far a gradient may be from that of plain passes: the length of the difference beside its own length.
SLOPE = {torch.float32: 5e-3, torch.float16: 0.1, torch.bfloat16: 0.25}
#: Adapters that are tried on weights of 16 bits: a difference near the bound may be rounding, which another adapter does not
#: repeat. A fault is there with all of them.
_TRIES = 3
#: Tokens of a completion.
_NEW = 3
#: Prompts that begin alike and prompts that do not: how many tokens each has, and how many completions.
_ALIKE, _APART = ((SHORTEST_PREFIX + 1, 1), (SHORTEST_PREFIX + 4, 1)), ((4, 1), (8, 2))


@dataclass(frozen=True)
class _Row:
    """A completion under its prompt."""

    prompt_ids: list[int]
    token_ids: list[int]
    sampled: list[float] = field(default_factory=list)


@dataclass
class Difference:
    """How far a peer's numbers are from those of plain passes, in units of what is tolerated."""

    what: str = ""
    """The largest: "sampling", "scoring" or "gradient"."""
    size: float = 0.0
    said: str = ""

    def note(self, what: str, size: float, tolerated: float, unit: str) -> None:
        """Keep it if it is the largest so far; what is not a number is larger than all."""
        ratio = float("inf") if isnan(size) else size / tolerated
        if ratio > self.size:
            self.what, self.size = what, ratio
            self.said = (
                f"{what} differs from a plain pass of the model by {size:.2g} {unit} ({tolerated:.2g} is tolerated)"
            )

    @property
    def tolerated(self) -> bool:
        """Whether all is well."""
        return self.size <= 1


def load_peer(name: str, config: PeerConfig, device: torch.device, base: Peer | None = None) -> Peer:
    """Load a peer and compare its numbers, unless ``config.self_test`` is off.

    Args:
        name: Name of the peer.
        config: Its settings.
        device: Where it runs, unless its settings name a device.
        base: A peer whose copy of the same model it uses.

    Returns:
        The peer; ``peer.notes`` says what a user should know of it, a line each.

    Raises:
        PeerSourceError: The model cannot be loaded, or :func:`self_test` refuses it.
    """
    peer = Peer(name, config, device, base=base)
    if config.self_test:
        peer.notes += self_test(peer)
    return peer


def self_test(peer: Peer) -> list[str]:
    """Compare what a peer samples and scores with plain passes; leave out the short cuts that differ.

    Args:
        peer: A loaded peer, whose paths are set here.

    Returns:
        One line for every change that was needed.

    Raises:
        PeerSourceError: The model's numbers are not finite, it sees tokens that are still to come, or what is sampled or
            scored differs from a plain pass without any short cut, too.
    """
    # First on a few layers, which takes a fraction of the time. Only what is right there is believed.
    tries = 1 if tolerance(peer)[0] == NATS[torch.float32] else _TRIES
    if any(_right_in_short(peer, adapter) for adapter in range(tries)):
        return []
    with _tested(peer):
        return _test_whole(peer)


def _right_in_short(peer: Peer, adapter: int) -> bool:
    with _tested(peer, adapter):
        try:
            with peer.shortened():
                return _difference(peer, _Oracle(peer)).tolerated
        except torch.OutOfMemoryError:
            raise
        except Exception:  # a model that cannot be shortened is tested whole
            return False


def _test_whole(peer: Peer) -> list[str]:
    oracle = _Oracle(peer)
    found = now = _difference(peer, oracle)
    if found.tolerated:
        return []
    for what, leave_out in _LEFT_OUT:
        leave_out(peer)
        now = _difference(peer, oracle)
        if now.tolerated:
            return [f"peer {peer.name!r}: {found.said}; for this model {what}"]
    raise PeerSourceError(
        f"peer {peer.name!r}: {peer.config.model} cannot be used: {found.said}, and without short cuts {now.said}; choose "
        "another model"
    )


def _without_prefix(peer: Peer) -> None:
    peer.paths.prefix = False
    if peer.paths.padding == "anywhere":
        peer.paths.padding = "left"


def _without_cached_scores(peer: Peer) -> None:
    peer.paths.cached_scores = False


def _without_padding(peer: Peer) -> None:
    peer.paths.padding = "nowhere"


#: What is left out, one after the other, until the rest is right: each with what the peer does instead.
_LEFT_OUT: tuple[tuple[str, Callable[[Peer], None]], ...] = (
    ("what prompts begin with is read for each of them", _without_prefix),
    ("every completion is scored with its prompt, without a cache", _without_cached_scores),
    ("only prompts of equal length are sampled together", _without_padding),
    ("layers run as the library has them", lambda peer: peer.run_plainly()),
)


# --- what is compared ---------------------------------------------------------------------------------------------------


class _Oracle:
    """Plain passes of a peer's model; what has been asked once is remembered.

    Raises:
        PeerSourceError: The model's numbers are not finite, or it sees tokens that are still to come.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        ids = _tokens(peer, SHORTEST_PREFIX + sum(n for n, _ in (*_ALIKE, *_APART)))
        begin, rest = ids[:SHORTEST_PREFIX], iter(ids[SHORTEST_PREFIX:])
        self.alike = [begin + [next(rest) for _ in range(n - SHORTEST_PREFIX)] for n, _ in _ALIKE]
        self.apart = [[next(rest) for _ in range(n)] for n, _ in _APART]
        self.rows: list[_Row] = []
        """What is scored: the completions of the first sampling, so that one pass is the oracle of both."""
        self.slope: dict[str, Tensor] = {}
        self.spread = 1.0
        self._known: dict[tuple[int, ...], Tensor] = {}
        self._check_causal()

    @torch.no_grad()
    def _check_causal(self) -> None:
        peer, row = self.peer, self.alike[-1]
        where = f"peer {peer.name!r}: {peer.config.model}"
        with runs_on_text(where), _plain(peer):
            whole, part = self._logits(row, 2)[0], self._logits(row[:-1], 1)[0]
        if not bool(whole.isfinite().all()):
            raise PeerSourceError(
                f"{where} gives logits that are not finite: its weights are damaged, or dtype is too narrow"
            )
        self.spread = max(1.0, float(whole.std()))
        distance = float((whole.log_softmax(-1) - part.log_softmax(-1)).abs().max())
        if distance > 3 * self.spread * tolerance(peer)[0]:
            raise PeerSourceError(
                f"{where} sees tokens that are still to come (they move a log-probability by {distance:.2g} nats): it is "
                "no causal language model"
            )

    def score(self, row: _Row) -> Tensor:
        """Log-probabilities of a completion, ``float32 Tensor[tokens]``, with gradient if it is enabled."""
        key = (*row.prompt_ids, -1, *row.token_ids)
        if key in self._known and not torch.is_grad_enabled():
            return self._known[key]
        with _plain(self.peer):
            logits = self._logits([*row.prompt_ids, *row.token_ids], len(row.token_ids) + 1)[:-1]
        logprobs = torch.log_softmax(logits / temperature(self.peer), dim=-1)
        targets = torch.tensor(row.token_ids, device=logprobs.device)
        found = logprobs.gather(1, targets[:, None])[:, 0]
        self._known[key] = found.detach()
        return found

    def learn(self) -> None:
        """Log-probabilities and gradient of what is scored."""
        with torch.enable_grad():
            for weight, row in zip(_weights(self.rows), self.rows, strict=True):
                (weight * self.score(row)).sum().backward()
        self.slope = _taken_gradients(self.peer)

    def _logits(self, ids: list[int], last: int) -> Tensor:
        """Of the last tokens of a row, ``float32 Tensor[last, vocabulary]``."""
        network = self.peer.network.get_base_model()
        # The same numbers, without those of a large vocabulary that nobody looks at.
        fewer = {"logits_to_keep": last} if "logits_to_keep" in signature(network.forward).parameters else {}
        inputs = torch.tensor([ids], device=self.peer.device)
        logits: Tensor = network(input_ids=inputs, use_cache=False, **fewer).logits[0, -last:].float()
        return logits


def _difference(peer: Peer, oracle: _Oracle) -> Difference:
    """Sample, score and differentiate on the peer's paths; what a path cannot run at all is infinitely far away."""
    found = Difference()
    nats, slope = (t * s for t, s in zip(tolerance(peer), (oracle.spread, 1.0), strict=True))
    doing = "sampling"
    try:
        rows = _sampled(peer, oracle)
        oracle.rows = oracle.rows or rows
        if not oracle.slope:
            oracle.learn()
        loose = max(nats, NATS[torch.float16] * oracle.spread) if peer.config.sampling_weights == "half" else nats
        with torch.no_grad():
            for row in rows:
                if row.sampled:
                    away = (torch.tensor(row.sampled) - oracle.score(row).cpu()).abs().max()
                    found.note("sampling", float(away), loose, "nats")
        doing = "scoring"
        for row, logprobs in zip(oracle.rows, _scored(peer, oracle.rows), strict=True):
            with torch.no_grad():
                found.note("scoring", float((logprobs - oracle.score(row)).abs().max()), nats, "nats")
        largest = max(float(g.norm()) for g in oracle.slope.values())
        for name, gradient in _taken_gradients(peer).items():
            exact = oracle.slope[name]
            off = float((gradient - exact).norm()) / max(float(exact.norm()), 0.05 * largest, 1e-12)
            found.note("the gradient", off, slope, "of its length")
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a model's own code meets on a path it was not made for
        _taken_gradients(peer)
        found.size = float("inf")
        found.said = f"{doing} fails ({type(error).__name__}: {first_line(error)})"
    return found


def _sampled(peer: Peer, oracle: _Oracle) -> list[_Row]:
    """Completions as the peer samples them, with their log-probabilities; made up where its engine is another process."""
    rows: list[_Row] = []
    for prompts, sizes in ((oracle.alike, _ALIKE), (oracle.apart, _APART)):
        if not peer.samples_itself:
            counts = [k for _, k in sizes]
            rows += [_Row(p, _tokens(peer, _NEW)) for p, k in zip(prompts, counts, strict=True) for _ in range(k)]
            continue
        seeds = [list(range(1, k + 1)) for _, k in sizes]
        settings = replace(
            peer.config.generation, max_new_tokens=_NEW, stop=[], top_p=1.0, temperature=temperature(peer)
        )
        done = peer.draw(prompts, seeds, settings)
        rows += [_Row(p, s.token_ids, s.logprobs) for p, group in zip(prompts, done, strict=True) for s in group]
    return rows


def _scored(peer: Peer, rows: Sequence[_Row]) -> list[Tensor]:
    """Log-probabilities of completions as the peer scores them in training, each ``Tensor[tokens]``; gradients are added."""
    weights, scores = _weights(rows), []
    alike = sum(k for _, k in _ALIKE)
    for part in (slice(alike), slice(alike, None)):
        some = rows[part]
        with torch.enable_grad(), peer.reading(peer.common_beginning(some)):
            logprobs, _, mask = peer.logprobs(some, temperature=temperature(peer))
            each = [p[m] for p, m in zip(logprobs, mask, strict=True)]
            torch.stack([w * s.sum() for w, s in zip(weights[part], each, strict=True)]).sum().backward()
        scores += [s.detach() for s in each]
    return scores


def _weights(rows: Sequence[_Row]) -> list[float]:
    """What each completion counts in the loss: both signs, no two alike."""
    return [(-1) ** i * (1 + i / 2) for i in range(len(rows))]


def temperature(peer: Peer) -> float:
    """What logits are divided by here: the peer's own temperature, or 1 if that is lower.

    A model divided by 0.1 rounds ten times as far, which says nothing of the paths that are compared.
    """
    return max(1.0, peer.config.generation.temperature)


def tolerance(peer: Peer) -> tuple[float, float]:
    """What is tolerated of a peer, in nats (at a spread of 1) and of a gradient's length."""
    dtype = peer.head.weight.dtype if peer.head.weight.dtype in NATS else torch.bfloat16
    if peer.config.quantization == "int8":  # which columns are outliers is asked of all rows of a batch together
        dtype = torch.bfloat16
    return NATS[dtype], SLOPE[dtype]


#: What is read: a trained model is steadier where it knows the language. Between tokens drawn at random bfloat16 may round a
#: log-probability as far as some faults move it.
_TEXT = (
    "A farmer has twelve sheep and buys five more at the market in the next town. On the way home two of them run away into "
    "the hills, and her neighbour gives her three of his own. How many sheep does she have now, and how many would she need "
    "to have twice as many as in the beginning? Explain each step, then write the answer as a number at the end."
)


def _tokens(peer: Peer, count: int) -> list[int]:
    """Ordinary tokens of the peer's vocabulary, always the same: a text, or what is drawn if its tokens are too few."""
    vocabulary = min(peer.head.weight.shape[0], len(peer.tokenizer))
    special = set(peer.tokenizer.all_special_ids) | set(peer.tokenizer.added_tokens_decoder) | peer.stop_ids
    read = [
        t for t in peer.tokenizer(_TEXT, add_special_tokens=False)["input_ids"] if t < vocabulary and t not in special
    ]
    if len(set(read)) >= count:
        return read[:count]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(vocabulary, (4 * count + 64,), generator=generator).tolist()
    ordinary = [t for t in drawn if t not in special] or drawn
    return [ordinary[i % len(ordinary)] for i in range(count)]


# --- the peer while it is tested ----------------------------------------------------------------------------------------


@contextmanager
def _tested(peer: Peer, adapter: int = 0) -> Iterator[None]:
    """The peer awake, and torch's random numbers afterwards as they were."""
    with _awake(peer, adapter), torch.random.fork_rng([peer.device] if peer.device.type == "cuda" else []):
        yield


@contextmanager
def _awake(peer: Peer, adapter: int) -> Iterator[None]:
    """An adapter that does something, and no dropout in it, for a while: one that is zero would hide what is wrong."""
    generator = torch.Generator().manual_seed(adapter)
    weights = {n: p for n, p in peer.adapter_parameters().items() if "lora_B" in n}
    kept = {n: p.detach().clone() for n, p in weights.items()}
    dropouts = [m for n, m in peer.network.named_modules() if "lora_dropout" in n and isinstance(m, nn.Dropout)]
    rates = [m.p for m in dropouts]
    try:
        for module in dropouts:
            module.p = 0.0
        for parameter in weights.values():
            if not parameter.detach().any():
                noise = torch.randn(parameter.shape, generator=generator) * 0.02
                parameter.data.copy_(noise)
        yield
    finally:
        for name, parameter in weights.items():
            parameter.data.copy_(kept[name])
        for module, rate in zip(dropouts, rates, strict=True):
            module.p = rate


@contextmanager
def _plain(peer: Peer) -> Iterator[None]:
    """The network as transformers and PEFT have it, in evaluation mode, with the peer's adapter."""
    peer.evaluate()
    with library_layers(peer.network), peer.policy():
        yield


def _taken_gradients(peer: Peer) -> dict[str, Tensor]:
    """The adapter's gradients, which it does not keep."""
    taken = {}
    for name, parameter in peer.adapter_parameters().items():
        taken[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.grad = None
    return taken
