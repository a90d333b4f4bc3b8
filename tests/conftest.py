import gc
import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Nothing here is compiled. bitsandbytes would otherwise load torch's compiler in every process, which takes seconds.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

# Time limits on single examples only measure how busy the machine is.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

KNOWN_WARNINGS = (
    # Of the libraries about each other, on every run.
    "ignore:.*torch.jit.script_method.*:DeprecationWarning",
    "ignore:.*gradient_checkpointing_(en|dis)able.*:FutureWarning",
    "ignore:.*is_gradient_checkpointing.*:FutureWarning",
    "ignore:fan_in_fan_out is set to False:UserWarning",
    "ignore:.*treespec, LeafSpec.*",
    "ignore:Found .* module\\(s\\) in eval mode",
    "ignore:Total length of .* across ranks is zero",
    "ignore:.*does not have many workers.*",
)

#: What takes longest goes out first: a worker that is handed one of these last works on while the others wait.
LONGEST = (
    "module/test_two_processes.py", "peers/test_families.py", "cli/test_shipped_configs.py", "cli/test_command_line.py",
    "cli/test_resume.py", "cli/test_settings_table.py", "cli/test_one_folder.py", "cli/test_bad_input.py",
    "cli/test_export.py", "module/test_dynamic_sampling.py", "benchmarks/test_quick.py", "callbacks/test_report.py",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # of pytest-xdist, by the number of tests: a file of one long test would be last
    for warning in KNOWN_WARNINGS:
        config.addinivalue_line("filterwarnings", warning)
    if os.environ.get("TEST_ROUNDING"):  # what hands the files out to the workers needs no torch
        import numerics

        numerics.round_otherwise()
    # Processes of a test are forks of one that has imported this, once for each worker.
    multiprocessing.set_forkserver_preload(["core_lightning.callbacks", "core_lightning.data", "core_lightning.module"])


@pytest.fixture
def small_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small figure in a report instead of ten: they take longer than the run, and have tests of their own."""
    from core_lightning.report import figures, page

    monkeypatch.setattr(figures, "SECTIONS", {"Time": figures.SECTIONS["Time"]})
    for module in (figures, page):
        monkeypatch.setattr(module, "DPI", 40)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get("/".join(item.path.parts[-2:]), len(LONGEST)))


def pytest_collection_finish() -> None:
    """What was imported is never garbage, and no collection has to look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def lightning_talks() -> None:
    """Benchmarks silence Lightning for the rest of their process; tests after them listen to its messages."""
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny model by its architecture's name, saved on first use: ``llama``, ``neox``, ``gemma3``, ..."""
    import tiny

    root = tmp_path_factory.mktemp("tiny")

    def folder(name: str) -> Path:
        if not (root / name).exists():
            getattr(tiny, f"save_{name}")(root / name)
        return root / name

    return folder


@pytest.fixture(scope="session")
def llama_folder(tiny_folder: Callable[[str], Path]) -> Path:
    return tiny_folder("llama")


@pytest.fixture(scope="session")
def neox_folder(tiny_folder: Callable[[str], Path]) -> Path:
    return tiny_folder("neox")
