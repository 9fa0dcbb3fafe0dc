# The two commands are `make run` and `make test`; everything they need goes into .venv beside this file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check compliance bench clean help

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: $(VENV)/up.installed ## install, then bring the router up with an embedded Redis and a sample backend
	@exec $(BIN)/millrace up

test: $(VENV)/dev.installed ## install, then style, types and every test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

check: $(VENV)/dev.installed ## style and types only
	$(BIN)/ruff check .
	$(BIN)/mypy

compliance: $(VENV)/dev.installed ## the protocol suites in full: h2spec, Autobahn; what is not installed says how to get it
	COMPLIANCE=full $(BIN)/pytest tests/compliance

bench: $(VENV)/bench.installed ## measure side by side with nginx, HAProxy and the other peers that are here
	$(BIN)/millrace bench

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Millrace needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/%.installed: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@
