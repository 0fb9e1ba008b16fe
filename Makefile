# Every target makes the environment it needs. `make serve` and `make test` are all that a fresh machine takes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
ARGS ?=

.PHONY: serve test test-all lint format bench clean help

help: ## show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

serve: $(STAMPS)/run ## start the sidecar on http://127.0.0.1:4566 (options: make serve ARGS="--data ./data")
	@exec $(BIN)/sidebus serve $(ARGS)

test: $(STAMPS)/test ## run the tests (some two minutes on two cores)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

test-all: $(STAMPS)/test ## run the slow tests too: other SDKs, 100 kills, 10,000 malformed requests
	$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

lint: $(STAMPS)/lint ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMPS)/lint ## put the code in its style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(STAMPS)/run ## measure, beside other servers (options: make bench ARGS="--quick")
	$(BIN)/python -m bench.sqs $(ARGS)

clean: ## remove everything that was made
	rm -rf $(VENV) .venvs .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(STAMPS)/run: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/test: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e '.[test]'
	@mkdir -p $(STAMPS) && touch $@ $(STAMPS)/run

$(STAMPS)/lint: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e '.[test,lint]'
	@mkdir -p $(STAMPS) && touch $@ $(STAMPS)/run $(STAMPS)/test
