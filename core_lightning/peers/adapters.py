"""The adapter of a peer: which layers get one, how a new one is made, and how a saved one is put on without a gap."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core_lightning.peers.config import LoraSettings
from core_lightning.peers.sources import PeerSourceError, check_pointer, first_line, readable

#: Starts of an adapter that leave the base as it is. The others (PiSSA, OLoRA, ...) also change the base's own weights,
#: so that what is saved fits no published base.
_STARTS_BESIDE_THE_BASE = (True, False, "gaussian", "eva", "orthogonal")
#: Layers that ``all-linear`` leaves out by family: the kernels of these read the weight past an adapter, so PEFT refuses it.
_READ_PAST_ADAPTERS = {"falcon_h1": ("out_proj",), "nemotron_h": ("out_proj",)}


def adapter_name(peer: str) -> str:
    """Name of a peer's adapter in the PEFT model, which warns about names that are part of "lora_", as "a" is."""
    return f"peer_{peer}"


def reference_name(peer: str) -> str:
    """Name of the frozen copy a peer is compared with when it starts from an adapter."""
    return f"{adapter_name(peer)}__reference"


def add_adapter(
    network: Any,
    name: str,
    lora: LoraSettings,
    start: str | None = None,
    *,
    base: str | None = None,
    revision: str | None = None,
) -> nn.Module:
    """Put a peer's float32 LoRA adapter on a base (or beside the adapters it has) and return the PEFT model.

    Args:
        network: A base model, or the PEFT model made by an earlier call.
        name: Name of the peer; adapters of several peers can live on one base.
        lora: Shape of a new adapter.
        start: PEFT folder to start from instead; it is loaded twice, to be trained and, frozen, as the KL reference.
        base: What a saved adapter says its base is; the model's own path if left out.
        revision: Commit of the base, which a saved adapter names too.

    Raises:
        PeerSourceError: The adapter folder does not fit, or no layer of the model has a target's name.
    """
    import peft

    if start is not None:
        saved = check_start(name, Path(start).expanduser())
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Found missing adapter keys")  # an error below
                if isinstance(network, peft.PeftModel):
                    network.load_adapter(start, adapter_name(name), is_trainable=True)
                else:
                    network = peft.PeftModel.from_pretrained(
                        network, start, adapter_name=adapter_name(name), is_trainable=True
                    )
                network.load_adapter(start, reference_name(name), is_trainable=False)
        except (ValueError, OSError, RuntimeError) as error:
            raise PeerSourceError(f"peer {name!r}: adapter {start!r} cannot be loaded ({first_line(error)})") from error
        for loaded in (adapter_name(name), reference_name(name)):
            _check_loaded(network, loaded, saved, f"peer {name!r}: adapter {start!r}")
    else:
        shape = _shape(network, name, lora)
        try:
            if isinstance(network, peft.PeftModel):
                network.add_adapter(adapter_name(name), shape)
            else:
                network = peft.get_peft_model(network, shape, adapter_name=adapter_name(name))
        except (ValueError, TypeError) as error:
            raise PeerSourceError(
                f"peer {name!r}: lora.targets {lora.targets} cannot be adapted ({first_line(error)}); choose among "
                f"{', '.join(_endings(text_layers(network)))}"
            ) from error
    config = network.peft_config[adapter_name(name)]
    config.base_model_name_or_path = base or config.base_model_name_or_path
    config.revision = revision
    return network


def adapter_parameters(network: Any, name: str) -> dict[str, nn.Parameter]:
    """The trainable weights of a peer's adapter by name; names are stable across runs."""
    mark = f".{adapter_name(name)}."
    return {n.replace(mark, "."): p for n, p in network.named_parameters() if "lora_" in n and mark in f"{n}."}


def save_adapter(network: Any, name: str, folder: Path) -> None:
    """Write a peer's adapter into a folder in PEFT format; ``PeftModel.from_pretrained(base, folder)`` reads it."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    adapter = adapter_name(name)
    weights = get_peft_model_state_dict(network, adapter_name=adapter, save_embedding_layers=False)
    save_file({n: w.detach().cpu().contiguous() for n, w in weights.items()}, folder / "adapter_model.safetensors")
    network.peft_config[adapter].save_pretrained(str(folder))
    readable(folder, "adapter_config.json")


# --- which layers -------------------------------------------------------------------------------------------------------


def text_layers(network: Any) -> dict[str, nn.Module]:
    """Linear layers by name that a text passes through and an adapter can sit on.

    Left out are the output layer, which is scored frozen, routers of mixtures of experts, whose choice of experts has no
    gradient of its own, and the towers beside the text of models that also see or hear.
    """
    base = network.get_base_model() if hasattr(network, "peft_config") else network
    modules = dict(base.named_modules())
    decoder, head = base.get_decoder(), base.get_output_embeddings()
    inside = {id(m) for m in (base if decoder is None else decoder).modules()}
    if not any(_is_linear(m) for m in modules.values() if id(m) in inside):
        inside = {id(m) for m in modules.values()}
    return {
        name: module
        for name, module in modules.items()
        if _is_linear(module)
        and id(module) in inside
        and module is not head
        and not re.search(r"\.(base_layer|lora_\w+)(\.|$)", name)
        and not _routes(name, modules)
    }


def adapted_share(network: Any, name: str) -> tuple[float, list[str]]:
    """Which share of the weights of linear layers has an adapter of a peer, and the names of layers that have none.

    Experts that are one tensor of three dimensions count as layers; in some families PEFT adapts them as such.
    """
    from peft.tuners.lora import LoraLayer, ParamWrapper

    total = adapted = 0
    bare: set[str] = set()
    wrapped = [m for m in network.modules() if isinstance(m, ParamWrapper) and adapter_name(name) in m.lora_A]
    experts = {id(getattr(m.get_base_layer(), m.parameter_name)) for m in wrapped}
    for path, layer in text_layers(network).items():
        if isinstance(layer, ParamWrapper):
            continue
        size = _size(layer)
        total += size
        if isinstance(layer, LoraLayer) and adapter_name(name) in layer.lora_A:
            adapted += size
        else:
            bare.add(path.rsplit(".", 1)[-1])
    for path, parameter in network.named_parameters():
        if parameter.ndim == 3 and "expert" in path and "lora_" not in path:
            total += parameter.numel()
            if id(parameter) in experts:
                adapted += parameter.numel()
                continue
            bare.add(re.sub(r".*\.(?=\w*expert)", "", path))
    return adapted / max(total, 1), sorted(bare)


def describe(network: Any, name: str) -> str:
    """One line on a peer: which share of its linear weights has an adapter, and which share is packed."""
    share, bare = adapted_share(network, name)
    line = f"peer {name!r}: {share:.0%} of the weights of linear layers have an adapter"
    if bare:
        line += f"; none in {', '.join(bare[:6])}" + (f" and {len(bare) - 6} more" if len(bare) > 6 else "")
    packed = total = 0
    for path, parameter in network.named_parameters():
        if ("lora_" not in path and parameter.ndim >= 2) or parameter.dtype == torch.uint8:
            size = _unpacked(parameter)
            total += size
            packed += size if parameter.dtype.itemsize == 1 else 0
    return line if not packed else f"{line}; {packed / total:.0%} of all weights are packed"


def _unpacked(parameter: Any) -> int:
    """Numbers in a weight, which may be packed."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()


def _is_linear(module: nn.Module) -> bool:
    from peft.tuners.lora import LoraLayer
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, (nn.Linear, Conv1D, LoraLayer)) or (
        "Linear" in type(module).__name__ and hasattr(module, "in_features")
    )


def _routes(path: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a layer is (part of) a router: it is called so and stands beside experts."""
    parts = path.split(".")
    for i, part in enumerate(parts):
        if part in ("router", "gate"):
            beside = modules[".".join(parts[:i])].named_children()
            if any("expert" in n.lower() or "Expert" in type(m).__name__ for n, m in beside if n != part):
                return True
    return False


def _size(layer: Any) -> int:
    """Weights of a linear layer, however they are packed."""
    layer = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
    if hasattr(layer, "in_features"):
        return layer.in_features * layer.out_features
    return layer.weight.numel()


def _endings(names: Iterator[str] | Mapping[str, nn.Module]) -> list[str]:
    return sorted({n.rsplit(".", 1)[-1] for n in names})


def _shape(network: Any, name: str, lora: LoraSettings) -> Any:
    """The PEFT settings of a new adapter.

    Raises:
        PeerSourceError: A target fits no layer.
    """
    import peft

    layers = text_layers(network)
    base = network.get_base_model() if hasattr(network, "peft_config") else network
    head = base.get_output_embeddings()
    heads = [n for n, m in base.named_modules() if m is head]
    choices = ", ".join(_endings(layers))
    targets: list[str] | str = lora.targets
    if targets == "all-linear":
        past = _READ_PAST_ADAPTERS.get(base.config.get_text_config().model_type, ())
        targets = [name for name in _endings(layers) if name not in past]
    if isinstance(targets, str):
        chosen = [n for n in layers if re.fullmatch(targets, n)]
        unfit = [] if chosen else [targets]
    else:
        if any(_ends(h, t) for h in heads for t in targets):
            raise PeerSourceError(f"peer {name!r}: the output layer is scored frozen; leave it out of lora.targets")
        chosen = [n for n in layers if any(_ends(n, t) for t in targets)]
        unfit = [t for t in targets if not any(_ends(n, t) for n in layers)]
    if unfit:
        raise PeerSourceError(
            f"peer {name!r}: lora.targets {', '.join(unfit)} fit no layer of this model; choose among {choices}, "
            "or all-linear"
        )
    wanted = set(chosen)
    matched = [n for n, _ in base.named_modules() if _matches(n, targets) and n not in wanted]
    # One pattern for a layer of every depth, unless it would leave out a layer that is wanted.
    patterns = {re.sub(r"\\\.\d+(?=\\\.|$)", r"\\.\\d+", re.escape(n)) for n in matched}
    if any(re.fullmatch("|".join(patterns), n) for n in wanted):
        patterns = {re.escape(n) for n in matched}
    return peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a float works and is saved as given
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        exclude_modules="|".join(sorted(patterns)) or None,
        task_type="CAUSAL_LM",
    )


def _ends(path: str, target: str) -> bool:
    return path == target or path.endswith(f".{target}")


def _matches(path: str, targets: list[str] | str) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(targets, path) is not None
    return any(_ends(path, t) for t in targets)


# --- a saved adapter ----------------------------------------------------------------------------------------------------


def check_start(name: str, folder: Path) -> dict[str, Tensor]:
    """The weights of a saved adapter that can be put on a base as it is.

    Raises:
        PeerSourceError: It is no LoRA adapter, needs another base than the published one, or cannot be read.
    """
    from peft.utils.save_and_load import load_peft_weights

    what = f"peer {name!r}: adapter {str(folder)!r}"
    settings_file = folder / "adapter_config.json"
    for file in (settings_file, folder / "adapter_model.safetensors"):
        check_pointer(file, what)
    try:
        settings = json.loads(settings_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PeerSourceError(
            f"{what} cannot be loaded (its adapter_config.json cannot be read: {first_line(error)})"
        ) from error
    if settings.get("peft_type") != "LORA":
        raise PeerSourceError(f"{what} is of kind {settings.get('peft_type')}; only LORA can be started from")
    start = settings.get("init_lora_weights", True)
    if start not in _STARTS_BESIDE_THE_BASE:
        raise PeerSourceError(
            f"{what} was started by {start}, which changes the base's own weights: on the published base it is another "
            "model; convert it to plain LoRA when you save it (path_initial_model_for_weight_conversion of PEFT)"
        )
    for setting in ("modules_to_save", "layer_replication", "trainable_token_indices"):
        if settings.get(setting):
            raise PeerSourceError(
                f"{what} has {setting} {settings[setting]}, weights beside LoRA that would not be trained; merge it "
                "into its base and give that as the model"
            )
    if not (folder / "adapter_model.safetensors").exists() and (folder / "adapter_model.bin").exists():
        raise PeerSourceError(
            f"{what} is stored as adapter_model.bin, a format that can run code when it is read; save it again with PEFT, "
            "which writes adapter_model.safetensors"
        )
    if settings.get("bias", "none") != "none":
        raise PeerSourceError(f"{what} has bias {settings['bias']}: it changes biases of the base; only none is taken")
    try:
        weights: dict[str, Tensor] = load_peft_weights(str(folder), device="cpu")
    except Exception as error:
        raise PeerSourceError(f"{what} cannot be loaded ({first_line(error)})") from error
    if broken := [n for n, w in weights.items() if not bool(w.isfinite().all())]:
        raise PeerSourceError(f"{what} has weights that are not finite: {_few(broken)}")
    return weights


def _check_loaded(network: Any, adapter: str, saved: Mapping[str, Tensor], what: str) -> None:
    """Refuse an adapter of which not every weight, and nothing else, is in the model now."""
    from peft import get_peft_model_state_dict

    loaded = get_peft_model_state_dict(network, adapter_name=adapter, save_embedding_layers=False)
    missing, unexpected = sorted(loaded.keys() - saved.keys()), sorted(saved.keys() - loaded.keys())
    if unexpected:
        raise PeerSourceError(f"{what} does not fit: the model has no place for its {_few(unexpected)}")
    if missing:
        raise PeerSourceError(f"{what} is not whole: it has no {_few(missing)}")
    if differ := [n for n, w in saved.items() if not bool((loaded[n].cpu().float() == w.float()).all())]:
        raise PeerSourceError(f"{what} was not taken over: the model differs in {_few(differ)}")


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
