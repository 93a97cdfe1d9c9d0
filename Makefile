# Two commands do everything: `make run` and `make test`. Both install what is missing first.
PYTHON ?= python3.11
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
# Tests of the command line need the tools of the environment on the path, as an activated one has.
export PATH := $(BIN):$(PATH)

.PHONY: help install run stop test check lock

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install:  ## install what is missing into .venv (run by the others)
	@$(PYTHON) -m nightshift.bootstrap

run: install  ## one night on the embedded stack, then keep serving until Ctrl-C (ONCE=1: stop after it)
	@$(BIN)/nightshift run $(if $(ONCE),--once) $(if $(SMOKE),--smoke)

stop: install  ## stop the embedded stack in the order that loses nothing
	@$(BIN)/nightshift down

test: install  ## every test, the checks included
	@$(BIN)/python -m pytest

check: install  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: install  ## resolve pyproject.toml into requirements.lock again
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.11 --no-header --no-annotate \
	  --quiet --upgrade -o requirements.lock
	sed -i -E 's/^(torch==[0-9.]+)\+.*/\1/' requirements.lock
