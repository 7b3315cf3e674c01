# Two commands to begin with: `make train`, `make test`. Inside an active virtual or conda
# environment they use it; otherwise they make .venv. TORCH=cpu takes torch and torchvision from
# the CPU index (0.3 GB instead of about 5.5 GB on Linux).

PYTHON ?= python3
ifneq ($(VIRTUAL_ENV)$(CONDA_PREFIX),)
  BIN := $(dir $(shell command -v python))
  STAMP := build/installed$(subst /,_,$(BIN))
else
  BIN := .venv/bin/
  STAMP := .venv/installed
endif
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install train test test-slow test-gpu lint clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(STAMP)  ## make or use an environment and install slotreel with its tools

$(STAMP): setup.py
	@if [ "$(BIN)" = ".venv/bin/" ] && [ ! -x .venv/bin/python ]; then \
	  echo "making .venv"; $(PYTHON) -m venv .venv; fi
	@echo "installing (torch with CUDA is about 5.5 GB on Linux; TORCH=cpu: 0.3 GB)"
	@if [ "$(TORCH)" = "cpu" ]; then $(BIN)python -m pip install --quiet torch torchvision \
	  --index-url https://download.pytorch.org/whl/cpu; fi
	$(BIN)python -m pip install --quiet -e '.[dev]'
	@mkdir -p $(dir $(STAMP)) && touch $(STAMP)

train: install  ## train the default run on generated video, ends with scores (ARGS="seed=1 ...")
	$(BIN)python train.py $(ARGS)

test: install  ## the fast tests (under 3 minutes on 2 cores)
	$(BIN)python -m pytest -n 2 $(ARGS)

test-slow: install  ## the rest: many processes, minutes; a real SLURM and a browser (installed if root, by apt)
	@scripts/install_slurm.sh || echo "SLURM was not installed: the tests that need it will skip"
	scripts/install_chromium.sh
	$(BIN)python -m pytest -m "slow or slurm" -rs $(ARGS)

test-gpu: install  ## tests that need a CUDA device
	$(BIN)python -m pytest -m gpu $(ARGS)

lint: install  ## ruff and mypy
	$(BIN)ruff check .
	$(BIN)ruff format --check .
	$(BIN)mypy

clean:  ## remove caches; runs and data stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
