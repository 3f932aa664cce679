# make demo   set everything up and open the explorer on the bundled run
# make test   set everything up and run every check
# make help   the rest

PYTHON ?= python3
VENV := .venv
export CHROMIUM ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
NPM := npm --prefix frontend --no-fund --no-audit --loglevel=error
# Which checks `make test` runs; the Python tests come last, so that their closing line is the last one.
# One core each, so that two go at a time; the long ones use both.
QUICK_CHECKS := lint types test-page
LONG_CHECKS := test-browser test-python
CHECKS := $(QUICK_CHECKS) $(LONG_CHECKS)

PAGE_SOURCES := $(shell find frontend/src frontend/public -type f 2>/dev/null) \
	$(wildcard frontend/index.html frontend/vite.config.ts frontend/svelte.config.js frontend/tsconfig*.json)

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup demo test bench lint format types test-page test-browser test-python clean tools browser

help:
	@echo 'make demo     set up what is missing, serve the bundled run, open the browser'
	@echo 'make test     set up what is missing, then lint, types, unit tests and the browser tests'
	@echo 'make setup    only the set-up: virtual environment, dependencies, built page'
	@echo 'make lint     ruff, eslint, prettier          make types   basedpyright, svelte-check'
	@echo 'make format   rewrite with ruff and prettier  make bench   print the figures docs/performance.md quotes'
	@echo 'make clean    remove what make made'

# ---- set-up -------------------------------------------------------------------------------------

setup: tools $(VENV)/.installed frontend/dist/index.html

tools:
	@PYTHON='$(PYTHON)' sh scripts/check-tools.sh

$(BIN)/python:
	@echo 'Creating the virtual environment in $(VENV)'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | tools $(BIN)/python
	@echo 'Installing the Python dependencies (PyTorch is the large one)'
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo 'Installing the tools that the checks need'
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

frontend/node_modules/.installed: frontend/package.json frontend/package-lock.json | tools
	@echo 'Installing what the page is built with'
	@# Debian's npm 9.2 is older than one tool asks for and does all the same; Node.js was checked before.
	@$(NPM) ci --engine-strict=false
	@touch $@

frontend/dist/index.html: frontend/node_modules/.installed $(PAGE_SOURCES)
	@echo 'Building the page'
	@$(NPM) run --silent build -- --logLevel error
	@touch $@

# ---- use ----------------------------------------------------------------------------------------

demo: setup
	@exec $(BIN)/tributary demo

bench: setup
	@for benchmark in benchmarks/*.py; do \
		printf '\n== %s\n' "$$benchmark"; $(BIN)/python "$$benchmark" || exit 1; \
	done

# ---- checks -------------------------------------------------------------------------------------

test: setup $(VENV)/.installed-dev browser
	@failed=''; \
	printf '\n== %s\n' '$(QUICK_CHECKS)'; $(MAKE) -k -j2 $(QUICK_CHECKS) || failed=' $(QUICK_CHECKS)'; \
	for check in $(LONG_CHECKS); do \
		printf '\n== %s\n' "$$check"; $(MAKE) "$$check" || failed="$$failed $$check"; \
	done; \
	if [ -n "$$failed" ]; then printf '\nFailed:%s\n' "$$failed"; exit 1; fi; \
	printf '\nAll checks passed: %s\n' '$(CHECKS)'

browser:
	@sh scripts/find-browser.sh --install >/dev/null

lint: $(VENV)/.installed-dev frontend/node_modules/.installed
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo 'Not formatted: run make format'; exit 1; }
	@$(NPM) run --silent lint
	@$(NPM) run --silent format:check -- --log-level warn

types: $(VENV)/.installed-dev frontend/node_modules/.installed
	@$(BIN)/basedpyright
	@$(NPM) run --silent check

test-page: frontend/node_modules/.installed
	@$(NPM) run --silent test

test-browser: setup browser
	@CHROMIUM="$$(sh scripts/find-browser.sh)" PYTHON='$(CURDIR)/$(BIN)/python' $(NPM) run --silent e2e

test-python: $(VENV)/.installed-dev
	@# Two threads for one tiny matrix only wait for each other: several processes of one thread each instead.
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

format: $(VENV)/.installed-dev frontend/node_modules/.installed
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format --quiet .
	@$(NPM) run --silent format -- --log-level warn

clean:
	rm -rf $(VENV) build *.egg-info frontend/node_modules frontend/dist .pytest_cache .ruff_cache .hypothesis
