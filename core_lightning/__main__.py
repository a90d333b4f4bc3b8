"""``python -m core_lightning fit --config configs/quickstart.yaml``."""

from core_lightning.cli.main import main

main()
