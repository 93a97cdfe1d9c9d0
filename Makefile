# Two commands do everything: `make run` and `make test`. Both install what is missing first.
PYTHON ?= python3.11
# Relative, so that a project in a folder with spaces in its name works too.
BIN := .venv/bin
# Tests of the command line need the tools of the environment on the path, as an activated one has.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help install run stop test test-long check lock

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install:  ## install what is missing into .venv (run by the others)
	@"$(PYTHON)" -c '' 2>/dev/null || \
	  { echo "Nightshift needs Python 3.11, and $(PYTHON) does not run: give make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -m nightshift.bootstrap

run: install  ## one night on the embedded stack, then keep serving until Ctrl-C (ONCE=1: stop after it)
	@$(BIN)/nightshift run $(if $(ONCE),--once) $(if $(SMOKE),--smoke)

# Installs nothing: packages must not change under what still runs.
stop:  ## stop the embedded stack in the order that loses nothing
	@if [ -x $(BIN)/nightshift ]; then $(BIN)/nightshift down; \
	else echo "Nothing runs: nothing is installed in .venv yet."; fi

# Spark is 0.4 GB that only its tests and those who choose it need: `make run` does without.
test: install  ## every test that is not long, the checks included
	@"$(PYTHON)" -m nightshift.bootstrap spark
	@$(BIN)/python -m pytest -n 2 -m "not long"

test-long: install  ## the long ones
	@$(BIN)/python -m pytest -m long

check: install  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: install  ## resolve pyproject.toml into requirements.lock again
	$(BIN)/uv pip compile pyproject.toml --extra all --extra dev --extra bench --python-version 3.11 --no-header --no-annotate \
	  --quiet --upgrade -o requirements.lock
	sed -i -E 's/^(torch==[0-9.]+)\+.*/\1/' requirements.lock
