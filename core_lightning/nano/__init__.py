r"""The nano pair: two transformers of 0.23 M parameters with complementary skills, small enough for RL on a CPU.

``nano/a`` (Llama) is good at addition and knows the ``@`` table, ``nano/b`` (StableLM) is good at products and knows
the ``&`` table; the ``mix`` task of :mod:`core_lightning.nano.tasks` needs both tables. They are plain transformers
folders with character tokenizers whose ids are not exchangeable. Shipped: seed 0, float16, 0.47 MB each, made by::

    OMP_NUM_THREADS=1 python -m core_lightning.nano --out core_lightning/nano/weights --seed 0

in about 95 seconds a peer on one core (1,600 steps of 32 sequences). Other seeds and folders make other pairs. The
prompts they are made for, and the only ones they understand, are ``Q:{question}\nA:`` in the cold round and
``Q:{question}\nH:{hint}\nA:`` in the rescue round.

``python -m core_lightning.nano --evaluate`` prints what they can do, in percent of 400 test problems with 8 samples
each at temperature 1. Hinted: the gold steps are in the prompt; team@2: Team Pass@2, cold; nobody: all 16 cold samples
are wrong::

          task    a cold    b cold  a hinted  b hinted    team@2    nobody
           add      74.7      14.7      98.4      96.9      89.2       1.2
           mul      19.5      70.5      93.6      94.2      86.5       2.5
            at      79.8      10.6      98.3      99.1      87.5       5.0
           amp      16.4      67.2      99.1      98.8      77.8      12.5
           mix      23.9      24.2      98.9      98.6      47.9      32.5
           all      42.9      37.4      97.7      97.5      77.8      10.8
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["nano_folder"]


def nano_folder(name: str) -> Path:
    """Folder of a shipped peer, ``nano/a`` or ``nano/b`` (the prefix may be left out).

    Raises:
        ValueError: There is no such peer.
    """
    weights = Path(str(files(__name__))) / "weights"
    folder = weights / name.removeprefix("nano/")
    if not (folder / "config.json").is_file():
        shipped = ", ".join(f"nano/{path.parent.name}" for path in sorted(weights.glob("*/config.json")))
        raise ValueError(f"{name}: no such nano peer, choose from {shipped}")
    return folder
