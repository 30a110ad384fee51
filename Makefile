# Two commands do everything on a fresh machine:
#     make demo    set up, then several real peers learn handwritten digits together
#     make test    set up, then run the tests
# Set-up happens once and again only when pyproject.toml or constraints.txt change.
#
# PYTHON    the interpreter that makes .venv (3.11 or later)
# PIP_ARGS  further arguments for pip. On Linux, torch from PyPI brings CUDA along; without a GPU,
#           PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" saves gigabytes.
# ARGS      further arguments for the command a target runs: make demo ARGS="--seed 1"
# BESIDE    how many tests run side by side, 0 for one after the other in one process; as many as
#           there are processors, four at most. Those that start peers or time something are run
#           by one process, in a row; the others step back for them (nice).

PYTHON   ?= python3
PIP_ARGS ?=
ARGS     ?=
BESIDE   ?= logical

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
CHECKED := gossip peers simulations tests

.DEFAULT_GOAL := help
.PHONY: help demo test check soak bench clean

help:
	@sed -n '/^# /s/^# //p' Makefile

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || { \
	    $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo 'Python 3.11 or later is needed: make PYTHON=python3.11 ...' >&2; exit 1; }; \
	    echo 'Making $(VENV) ...'; $(PYTHON) -m venv $(VENV); }
	@echo 'Installing (torch is large; this happens once) ...'
	@$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) \
	    -c constraints.txt -e '.[fast,test,demo,dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/gossip demo $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest --numprocesses=$(BESIDE) --maxprocesses=4 --max-worker-restart=0 $(ARGS)

check: $(STAMP)
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check --quiet $(CHECKED) \
	    || { echo 'Not in the common form; run: $(BIN)/ruff format $(CHECKED)' >&2; exit 1; }
	@$(BIN)/mypy

soak: $(STAMP)
	@$(BIN)/python -m simulations.soak $(ARGS)

bench: $(STAMP)
	@$(BIN)/python -m simulations.benchmarks.exchange
	@$(BIN)/python -m simulations.benchmarks.throughput

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find gossip peers simulations tests -name __pycache__ -type d -prune -exec rm -rf {} +
