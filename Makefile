# `make demo` and `make test` set everything up; nothing else is needed.

PYTHON ?= python3
VENV := .venv
AUDIT := .venv-audit
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := runs/demo
# Two processes of one thread each; a file's tests share what they have trained. tests/conftest.py says the order.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help demo test test-all kills check format docs audit demo-model clean

help: ## Show the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(INSTALLED) ## Find, measure and move a feature of the embedded model (under 3 minutes).
	$(BIN)/gradiend demo --output $(DEMO)

test: $(INSTALLED) ## Run the tests.
	$(TEST)

test-all: $(INSTALLED) ## Run the tests, the slow ones too.
	$(TEST) -m ""

kills: $(INSTALLED) ## Kill 240 runs and compare what the next ones make of it (under 15 minutes).
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s -m slow tests/test_killed_runs.py

check: $(INSTALLED) ## Formatter, linter and type checker, as in CI.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED) ## Format the code and fix what the linter can.
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## Build the documentation into site/, strictly; runs the notebooks (a minute).
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --quiet -d site/doctrees docs site/html

audit: $(INSTALLED) ## Ask the advisory database of the package index about every installed package (needs the network).
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(AUDIT)/bin/python scripts/audit.py $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

demo-model: $(INSTALLED) ## Pre-train the embedded model again (under 10 minutes).
	$(BIN)/python scripts/pretrain_demo_model.py

clean: ## Remove the environment and everything that was made.
	rm -rf $(VENV) $(AUDIT) runs site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
