"""Advertisements are left out; what a user has to know is heard."""

import logging
import warnings
from pathlib import Path

import pytest

from core_lightning.cli import quiet
from core_lightning.cli.quiet import quiet_others

LIGHTNING = "lightning.pytorch.utilities.rank_zero"


@pytest.mark.parametrize(
    ("logger", "line", "heard"),
    [
        (LIGHTNING, "💡 Tip: try installing [litlogger](https://pypi.org/project/litlogger/)", False),
        (LIGHTNING, "💡 Tip: try installing [litmodels](https://pypi.org/project/litmodels/)", False),
        (LIGHTNING, "`Trainer(limit_val_batches=1.0)` was configured so 100% of the batches will be used..", False),
        (LIGHTNING, "`Trainer(limit_val_batches=1)` was configured so 1 batch will be used.", True),
        (
            "transformers.distributed.tensor_parallel",
            "The following TP rules were not applied on any of the layers: {'layers.*.mlp': 'colwise'}",
            False,
        ),
        (LIGHTNING, "`Trainer.fit` stopped: `max_steps=10` reached.", True),
        (
            "transformers.quantizers.quantizer_gguf",
            "Dequantizing the whole model, because `kernels` is not installed",
            False,
        ),
        ("transformers.quantizers.quantizer_gguf", "the file is damaged", True),
        (
            "transformers.tokenization_utils_base",
            "Token indices sequence length is longer than the specified maximum sequence length for this model (9 > 1).",
            False,
        ),
    ],
)
def test_lines(logger: str, line: str, heard: bool, caplog: pytest.LogCaptureFixture) -> None:
    quiet_others()
    quiet_others()
    with caplog.at_level(logging.INFO, logger=logger):
        logging.getLogger(logger).addHandler(caplog.handler)  # transformers' own loggers do not propagate
        logging.getLogger(logger).warning(line)
        logging.getLogger(logger).removeHandler(caplog.handler)
    assert (line in caplog.messages) == heard
    assert len([f for f in logging.getLogger(logger).filters if type(f).__name__ == "_Left"]) == 1


def test_our_own_warnings_are_a_line_and_those_of_others_name_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    quiet_others()
    quiet_others()
    ours = str(Path(quiet.__file__).parents[1] / "training" / "nonfinite.py")
    assert warnings.formatwarning("not finite", UserWarning, ours, 43) == "warning: not finite\n"
    assert "/elsewhere/file.py:7" in warnings.formatwarning("old", UserWarning, "/elsewhere/file.py", 7)


def test_warnings() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quiet_others()
        warnings.warn(
            "`gradient_checkpointing_enable` is deprecated and will be removed in v6.", FutureWarning, stacklevel=1
        )
        warnings.warn("the loss is not finite", UserWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == ["the loss is not finite"]
