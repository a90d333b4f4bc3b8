"""What other libraries say on every run about what is meant here, or about products of theirs: left out."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

#: Warnings, as regular expressions from the beginning of a message.
_EXPECTED = (
    ".*in eval mode at the start of training.*",  # peers stay in evaluation mode, see Peer.train
    ".*gradient_checkpointing.*is deprecated.*",
    ".*LeafSpec.*is deprecated.*",
    ".*does not have many workers.*",
    ".*sync_dist=True.*",  # figures are of all processes when they are logged
    ".*fan_in_fan_out is set to.*",
    ".*args parameter is intended to run from within Python.*",  # files and switches are merged before
)

#: Log lines: by the logger's name, parts of a message. Lightning advertises its cloud; transformers says that it unpacks a
#: GGUF file, which it was told to do.
_SAID = {
    "lightning.pytorch.utilities.rank_zero": ("litlogger", "litmodels", "was configured so 100%"),  # which is all
    "transformers.distributed.tensor_parallel": (
        "were not sharded",
        "TP rules were not applied",
    ),  # nothing is meant to be
    # Prompts are measured here, and those that are too long are told of in one line.
    "transformers.tokenization_utils_base": ("sequence length is longer than the specified maximum",),
    "transformers.quantizers.quantizer_gguf": ("`kernels`", "Dequantizing the whole model"),
    # On a processor with native bfloat16: a package that would fetch compiled code from a hub.
    "bitsandbytes.backends.cpu.ops": ("Failed to load CPU gemm_4bit_forward",),
}


class _Left(logging.Filter):
    """Leaves out what holds one of some parts."""

    def __init__(self, parts: tuple[str, ...]) -> None:
        super().__init__()
        self.parts = parts

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(part in record.getMessage() for part in self.parts)


_FILTERS = {name: _Left(parts) for name, parts in _SAID.items()}


#: Whose warnings are lines for a user, who has no use for the place in the code.
_OURS = str(Path(__file__).parents[1])


def quiet_others() -> None:
    """Leave these lines out for the rest of the process; what else these libraries say is heard."""
    _without_place()
    for message in _EXPECTED:
        warnings.filterwarnings("ignore", message=message)
    for name, left in _FILTERS.items():
        logging.getLogger(name).addFilter(left)  # once: a logger knows its filters


def _without_place() -> None:
    """Print this library's warnings as ``warning: ...``, those of others with file and line, as before."""
    theirs = warnings.formatwarning
    if getattr(theirs, "of_core_lightning", False):
        return

    def said(message: Any, category: type[Warning], filename: str, *place: Any, **options: Any) -> str:
        ours = filename.startswith(_OURS)
        return f"warning: {message}\n" if ours else theirs(message, category, filename, *place, **options)

    said.of_core_lightning = True  # type: ignore[attr-defined]
    warnings.formatwarning = said
