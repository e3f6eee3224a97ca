# Everything goes through .venv; `make help` lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
STAMP  := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
MODEL  := smollm2-135m-instruct
# Where a comparison with other tools finds its fake driver and terminal bench; left out when absent.
RIG    ?= ../shared/rig

.PHONY: help run env test lint types contracts pytest test-gpu bench bench-gpu format screenshots clean
help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "make: needs Python >= 3.11 with venv (Debian: apt install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: needs Python >= 3.11, found $$($(BIN)/python -V)" >&2; exit 1; }
	@echo "installing into $(VENV), which takes some minutes the first time"
	$(PIP) -e .
	@touch $@

$(DEV_STAMP): $(STAMP)
	$(PIP) -e '.[dev]'
	@touch $@

env: $(DEV_STAMP) ## create the environment, with everything for development

run: $(STAMP) ## install, fetch the default model, open the dashboard (ARGS="…" reach hwdash)
	@case " $(ARGS) " in *" --replay "*|*" --replay="*) ;; *) \
		test -e "$${XDG_CACHE_HOME:-$$HOME/.cache}/hwdash/models/$(MODEL)/manifest.json" || $(BIN)/hwdash models pull $(MODEL);; esac
	@$(BIN)/hwdash $(ARGS)

lint: $(DEV_STAMP) ## ruff, lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_STAMP) ## mypy, strict
	$(BIN)/mypy

contracts: $(DEV_STAMP) ## who may import whom
	$(BIN)/lint-imports

pytest: $(DEV_STAMP) ## the tests alone
	$(BIN)/pytest -n auto $(ARGS)

test: lint types contracts pytest ## everything that needs no accelerator

test-gpu: ## the tests that need a CUDA device
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m pytest -m gpu -o addopts= tests

bench: $(STAMP) ## the benchmarks; results in bench/results (ARGS="dashboard" runs one)
	@test -x $(BIN)/nvitop -a -x $(BIN)/gpustat || $(PIP) -e '.[bench]'
	RIG=$(RIG) $(BIN)/python -m bench $(ARGS)

bench-gpu: ## the benchmarks that need a CUDA device; results in bench/results
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m bench decode-gpu $(ARGS)

screenshots: $(STAMP) ## the pictures in docs, from the program itself
	$(BIN)/python -m docs.screenshots

format: $(DEV_STAMP) ## put the code in its form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
