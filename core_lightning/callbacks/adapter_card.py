"""What lies beside an adapter, so that it can leave the machine: its card, and the same as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from core_lightning.callbacks.evaluation_folder import write
from core_lightning.callbacks.run_facts import run_facts
from core_lightning.callbacks.siblings import find_callback
from core_lightning.callbacks.team_pass_at_k import TeamPassAtKCallback
from core_lightning.peers.config import PeerConfig
from core_lightning.peers.peer import Peer
from core_lightning.peers.sources import embedded_origin
from core_lightning.records import AnswerKind, Problem
from core_lightning.report.card import Base, Card, data_facts, render_card
from core_lightning.report.tables import before_after_table, first_and_last


def write_cards(trainer: Trainer, pl_module: Any) -> None:
    """Write ``README.md`` and ``card.json`` into ``adapters/<peer>`` of every peer, over those of an earlier step."""
    root = Path(trainer.default_root_dir)
    facts = run_facts(trainer, pl_module)
    data: Any = getattr(trainer, "datamodule", None)
    manifest = data.manifest() if data is not None and hasattr(data, "manifest") else None
    kind: AnswerKind = data.splits["train"][0].kind if manifest and data.splits.get("train") else "auto"
    evaluations = find_callback(trainer, TeamPassAtKCallback)
    ends = first_and_last(evaluations.history) if evaluations is not None else None
    for name, peer in pl_module.peers.items():
        if not isinstance(peer, Peer):
            continue
        prompt = pl_module.prompt.render(Problem("", "{question}", "", kind))
        generation = peer.generation
        card = Card(
            peer=name,
            run=root.resolve().name,
            others=[other for other in pl_module.peer_configs if other != name],
            base=base_of(peer.config, peer.base_name),
            rank=peer.config.lora.r,
            steps=pl_module.batches_done,
            chats=peer.chats,
            prompt=peer.tokenizer.decode(peer.encode(prompt)) if peer.chats else prompt.text,
            sampling={n: getattr(generation, n) for n in ("temperature", "top_p", "max_new_tokens", "stop")},
            facts={n: text for n, text in facts.items() if not n.startswith("Peer ") or n == f"Peer {name}"},
            data=data_facts(manifest),
            results=before_after_table(*ends) if ends else None,
        )
        folder = root / "adapters" / name
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "card.json", card.to_json())
        write(folder / "README.md", render_card(card))


def base_of(config: PeerConfig, hub: tuple[str, str | None] | None) -> Base:
    """What a peer's adapter belongs to: by hub id and commit wherever these are known, never by a path.

    Args:
        config: Of the peer.
        hub: Hub id and commit, if the base is from the hub or its cache.
    """
    weights: Mapping[str, str] = {
        "none": "as stored",
        "nf4": "packed in 4 bits (nf4)",
        "int8": "packed in 8 bits (int8)",
    }
    packed = weights[config.quantization]
    if hub is not None:
        return Base(hub=hub[0], commit=hub[1], weights=packed)
    if config.model.startswith(("embedded/", "nano/")):
        return Base(name=config.model, origin=embedded_origin(config.model), weights=packed)
    return Base(folder=Path(config.model).expanduser().resolve().name, weights=packed)
