# Everything starts here: each target sets up what it needs. Wanted: Python 3.11 or newer, and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

export ORT_DISABLE_TELEMETRY = 1

.PHONY: help setup test check demo bench gpu clean

help:
	@echo "make demo    see it work, in the browser, from nothing"
	@echo "make setup   a $(VENV) with all that development needs, and the model files"
	@echo "make test    all checks, then all tests; the first failure ends it"
	@echo "make check   format, lint, layers and types alone"
	@echo "make bench   latency and throughput of this machine"
	@echo "make gpu     all that only a GPU can show: its tests, and a report (gpu.json, gpu.html)"
	@echo "make clean   remove $(VENV) and the caches of tools (models stay in ~/.cache/livedub)"

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "livedub needs Python 3.11 or newer, and '$(PYTHON)' is not: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.train: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[train,dev,gpu-rtx]'
	@touch $(VENV)/.train $@

setup: $(VENV)/.dev
	$(BIN)/livedub doctor --fetch

test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

demo: $(VENV)/.train
	@$(BIN)/livedub doctor --fetch >/dev/null
	$(BIN)/livedub demo

bench: setup
	$(BIN)/livedub bench

gpu: setup
	LIVEDUB_REQUIRE_CUDA=1 $(BIN)/pytest -m gpu
	$(BIN)/livedub bench --json gpu.json --html gpu.html

clean:
	rm -rf $(VENV) .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
