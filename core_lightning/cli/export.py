"""``python -m core_lightning export``: trained adapters leave the run, merged into their bases or up to the model hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from core_lightning.cli.prompt_check import Reader
from core_lightning.peers.merging import MergedType, MergeError, merge_adapter
from core_lightning.peers.sources import first_line
from core_lightning.report.card import Card, Merge, render_card
from core_lightning.report.visible import visible

TEXTS = 8
"""Held-out problems that a merged model is checked with."""
TOKEN = "HF_TOKEN"  # the name of a variable


class ExportError(ValueError):
    """Nothing can be exported as it was asked for."""


def export_run(
    module: Any,
    data: Any,
    run: Path,
    *,
    peer: str | None,
    merge: bool,
    push: str | None,
    private: bool,
    output: Path | None,
    dtype: MergedType,
    tolerance: float,
) -> None:
    """Merge, push, or both; see :meth:`core_lightning.cli.trainer.CommandTrainer.export`.

    Raises:
        ExportError: One line, before any model is loaded.
    """
    if not merge and push is None:
        raise ExportError("nothing to do: give --merge, --push NAME/REPO, or both")
    adapters = trained_adapters(run, list(module.peer_configs), peer)
    token = _token() if push is not None else ""
    if push is not None and push.count("/") != 1:
        raise ExportError(f"push is {push!r}; give owner and beginning of the names, as in me/gsm8k-pair")
    folders = dict(adapters)
    if merge:
        root = output or run / "merged"
        folders = {name: root / name for name in adapters}
        for folder in folders.values():
            if folder.exists():
                raise ExportError(f"output {folder} is in use; remove it, or give another --output")
        for name, prompts in held_out_prompts(module, data, list(adapters)):
            try:
                found = merge_adapter(
                    module.peer_configs[name], adapters[name], prompts, folders[name], dtype, tolerance
                )
            except MergeError as error:
                raise ExportError(f"peer {name!r}: {error}") from error
            checked = Merge(**asdict(found), tolerance=tolerance)
            _write_card(adapters[name], folders[name], checked)
            rank_zero_info(
                f"{name}: merged in {found.dtype}; log-probabilities of {found.tokens} held-out tokens differ from those of "
                f"base and adapter by {found.difference:.2g} nats on average (allowed {tolerance:g}), the adapter itself "
                f"moves them by {found.effect:.2g}: {folders[name]}"
            )
    if push is not None:
        for name, folder in folders.items():
            _check_base(name, folder, merge)
            where = _push(folder, f"{push}-{name}", token, private)
            rank_zero_info(f"{name}: pushed to {where}")


def trained_adapters(run: Path, peers: Sequence[str], only: str | None = None) -> dict[str, Path]:
    """Folders of a run's adapters by peer.

    Raises:
        ExportError: One is missing, or there is no such peer.
    """
    if only is not None and only not in peers:
        raise ExportError(f"the run has no peer {only!r}; choose among {', '.join(peers)}")
    folders = {name: run / "adapters" / name for name in peers if only in (None, name)}
    for name, folder in folders.items():
        if not (folder / "adapter_model.safetensors").is_file():
            raise ExportError(
                f"run {run} has no adapter of peer {name!r}: {folder} holds none; give the folder of a run that was trained"
            )
    return folders


def held_out_prompts(module: Any, data: Any, peers: Sequence[str]) -> Iterator[tuple[str, list[list[int]]]]:
    """For each peer the token ids of some problems it was not trained on."""
    splits: Mapping[str, Any] = data.splits
    problems = [*(splits.get("test") or ()), *(splits.get("val") or ())][:TEXTS]
    if not problems:
        raise ExportError(
            "the run's data has no test and no val problem to check a merged model with; raise a fraction"
        )
    for name in peers:
        reader = Reader(name, module.peer_configs[name])
        yield name, [reader.encode(problem, module.prompt) for problem in problems]


def _write_card(adapter: Path, folder: Path, merge: Merge) -> None:
    if (adapter / "card.json").is_file():
        card = Card.from_json((adapter / "card.json").read_text(encoding="utf-8"))
        (folder / "README.md").write_text(render_card(card, merge), encoding="utf-8")


def _token() -> str:
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise ExportError(f"push needs a token of the model hub: set it in the environment as {TOKEN}")
    return token


def _check_base(name: str, folder: Path, merged: bool) -> None:
    """Refuse to publish an adapter whose base is a path of this machine."""
    if merged or not (folder / "card.json").is_file():
        return
    base = Card.from_json((folder / "card.json").read_text(encoding="utf-8")).base
    if base.folder is not None:
        raise ExportError(
            f"the base of peer {name!r} is a folder of this machine, where nobody else finds it: push the merged model "
            "with --merge, or train on the model's hub id"
        )


def _push(folder: Path, repo: str, token: str, private: bool) -> str:
    """Create the repository if it is not there, and upload the folder in one commit.

    Raises:
        ExportError: The hub refuses or cannot be reached. The message never holds the token.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo, folder_path=str(folder), commit_message="Trained with core_lightning", ignore_patterns=[".*"]
        )
    except Exception as error:  # of the hub, of the network, of names: they have no common base
        reason = visible(first_line(error)).replace(token, "***")
        raise ExportError(f"push to {repo}: the hub did not take it ({reason})") from None
    return str(getattr(done, "repo_url", None) or repo)
