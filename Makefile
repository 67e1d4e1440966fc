# Two commands do everything: `make serve` and `make test`. Both set up what they need first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SERVER := .venv/.server
DEV := .venv/.dev

.DEFAULT_GOAL := help
.PHONY: help setup serve test check format pictures prove clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{split($$1, names, ":"); printf "  make %-8s %s\n", names[1], $$2}'

setup: $(DEV) ## make .venv with everything pinned, for working on Vigil

$(SERVER): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No python3 found. Install Python 3.11 or newer, or run: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Vigil needs Python 3.11 or newer; $(PYTHON) is older."; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	@touch $@

$(DEV): $(SERVER) clients/python/pyproject.toml
	$(PIP) -e '.[dev]' -e clients/python
	@touch $@

serve: $(SERVER) ## run the server on http://127.0.0.1:3000 (ARGS='--port 8080' passes flags on)
	@$(BIN)/vigil serve $(ARGS)

test: $(DEV) ## run all tests (ARGS='-k limits' passes flags on)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

check: $(DEV) ## format, lint, types, import direction
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python clients/python/generate_sync.py --check

format: $(DEV) ## rewrite the code in house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pictures: $(DEV) ## make the README's pictures anew (three minutes; needs chromium)
	$(BIN)/python docs/pictures.py

prove: $(DEV) ## the long measure: more crash rounds, longer property runs, benches
	VIGIL_PROVE=1 $(BIN)/python -m pytest -n 2 --dist worksteal --timeout 7200 $(ARGS)
	$(BIN)/python -m vigil.loadtests.bench.measures.live_sessions

clean: ## remove what setup made
	rm -rf .venv build dist *.egg-info src/*.egg-info
