"""Language models that teach each other to reason, as PyTorch Lightning modules (CORE, arXiv 2601.21600)."""

__version__ = "0.1.0"
