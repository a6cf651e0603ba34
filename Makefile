# The one door: `make help` lists what is behind it. Needs make and Python 3.11 or newer, nothing else.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
PACKAGES := $(wildcard he secagg coordinator)
# More for the command behind a target, for example: make demo ARGS="--rounds 3"
ARGS ?=

# Two cores: pytest runs two workers, so that BLAS gets one thread.
export OPENBLAS_NUM_THREADS ?= 1

# Says nothing when a command succeeds, and everything when it fails; the exit code is the command's.
quietly = @quietly() { out=$$("$$@" 2>&1) || { code=$$?; printf '%s\n' "$$out"; exit $$code; }; }; quietly

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint lint-style lint-types lint-imports lint-proto soak bench bench-report proto clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo '  Options for the command behind a target go into ARGS: make demo ARGS="--protocol masking --clients 20 --dropouts 4"'

setup: $(STAMP) ## install everything into .venv (the other targets do it by themselves)
	@:

$(STAMP): pyproject.toml tools/setup.sh
	@sh tools/setup.sh $(VENV)
	@touch $@

demo: $(STAMP) ## train a real model with encrypted updates: one coordinator, 5 key holders, 8 clients
	@$(BIN)/secagg demo $(ARGS)

test: $(STAMP) ## run the tests; fails when he and secagg are covered below 95 %, branches included
	@$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal --no-header --cov --cov-report=term $(ARGS)

lint: lint-style lint-types lint-imports lint-proto ## check style, types, import rules and generated code
	@echo "lint: all checks passed"

lint-style: $(STAMP)
	$(quietly) $(BIN)/ruff check .
	$(quietly) $(BIN)/ruff format --check .

lint-types: $(STAMP)
	$(quietly) $(BIN)/mypy $(PACKAGES) tools

lint-imports: $(STAMP)
	$(quietly) $(BIN)/lint-imports --no-logo

lint-proto: $(STAMP)
	$(quietly) $(BIN)/python tools/generate_proto.py --check

soak: $(STAMP) ## run the long tests: full matrices, thousands of seeds (SEED=n repeats a run)
	@seed=$${SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; echo "soak: SEED=$$seed"; \
	SOAK_SEED=$$seed $(BIN)/python -m pytest --numprocesses=2 --no-header -m soak --timeout=3600 \
		--hypothesis-profile=soak --hypothesis-seed=$$seed $(ARGS)

bench: $(STAMP) ## measure against peers, which it installs into .bench/; then make bench-report
	@for script in $(wildcard benchmarks/bench_*.py); do \
		echo "== $$script"; $(BIN)/python $$script $(ARGS) || exit $$?; \
	done

bench-report: $(STAMP) ## draw docs/performance.md from benchmarks/results/
	@$(BIN)/python benchmarks/make_report.py $(ARGS)

proto: $(STAMP) ## generate secagg/wire/ from proto/
	@$(BIN)/python tools/generate_proto.py

clean: ## remove .venv, .bench, caches and build results
	@rm -rf $(VENV) .bench build dist *.egg-info .coverage .coverage.* .hypothesis .import_linter_cache
	@rm -rf .mypy_cache .pytest_cache .ruff_cache
	@find . -type d -name __pycache__ -prune -exec rm -rf {} +
