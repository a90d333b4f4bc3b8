"""Runs of two processes with sharded peers, for ``test_two_processes.py``, whose processes make them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from torch.distributed.tensor import DTensor

from core_lightning.peers import LoraSettings
from core_lightning.peers.sampling.settings import ServerSettings
from core_lightning.protocol.rounds import RoundSettings
from runs import GENERATION, Diary, build, data, fit, peer, trainer

LORA = LoraSettings(r=2, targets="all-linear")


class Watch(Callback):
    """Notes what was sampled in the first step, and how much of the layers is in this process."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After the first step."""
        if pl_module.batches_done == 1:
            self.samples = [
                [t.peer, t.prompt_ids, t.token_ids, t.sampled_logprobs] for g in pl_module.record.groups for t in g
            ]
            parts = [p for p in pl_module.peers["a"].network.parameters() if isinstance(p, DTensor)]
            self.share = sum(p.to_local().numel() for p in parts) / sum(p.numel() for p in parts)


class NeverWhole(Callback):
    """A peer that samples from a server is not put together for it."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """From now on, that is an error."""
        del pl_module.peers["a"].shards._layers


def served(llama: Path, neox: Path, url: str) -> Any:
    """Peer a samples from a server, and is compared with it after every step."""
    server = replace(GENERATION, engine="server", max_new_tokens=4, server=ServerSettings(url, tolerance=1e-3))
    rounds = RoundSettings(k=2, k_rescue=0)
    return build({"a": peer(llama, lora=LORA, generation=server), "b": peer(neox, lora=LORA)}, rounds=rounds)


def team(llama: Path, neox: Path, **start: str) -> Any:
    """Peer b computes its activations again, and tries again with a hint."""
    return build(
        {
            "a": peer(llama, lora=LORA, adapter=start.get("a")),
            "b": peer(neox, lora=LORA, gradient_checkpointing=True),
        },
        rounds=RoundSettings(k=2, k_rescue=1, students="all"),
        eval_greedy=True,
    )


def main(folder: Path, llama: Path, neox: Path, url: str) -> dict[str, Any]:
    """A run, the second half of it again from its checkpoint, and runs from what a run of one process has left."""
    two = {"devices": 2, "strategy": "sharded"}
    whole, watch, again = Diary(save_after=3, path=folder / "sharded.ckpt"), Watch(), Diary()
    module = team(llama, neox)
    fit(module, folder, whole, watch, max_epochs=2, **two)
    module.peers["a"].save_adapter(folder / f"adapter-{module.global_rank}")
    # Three problems: one process has two, the other one, and then none.
    figures = trainer(folder, **two).validate(
        module, datamodule=data(folder, 5, 1, val_fraction=0.6), verbose=False
    )
    fit(team(llama, neox), folder, again, max_epochs=2, ckpt_path=folder / "sharded.ckpt", **two)
    from_plain, started = Diary(), Diary()
    fit(team(llama, neox), folder, from_plain, max_epochs=2, limit_train_batches=2, ckpt_path=folder / "plain.ckpt", **two)
    fit(team(llama, neox, a=str(folder / "plain-adapter")), folder, started, limit_train_batches=1, **two)
    from_server = Diary()
    fit(served(llama, neox, url), folder, from_server, NeverWhole(), limit_train_batches=2, **two)
    return {
        "from_server": from_server.weights,
        "weights": whole.weights,
        "again": again.weights,
        "samples": watch.samples,
        "share": watch.share,
        "figures": figures,
        "from_plain": from_plain.start,
        "started": started.start,
    }
