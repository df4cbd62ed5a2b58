# Everything runs in .venv, which `make setup` builds from requirements.lock. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV = .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_FLAGS := --disable-pip-version-check --no-input -qq

# make train ENV=atari/breakout FRAMES=10000000
ENV = atari/krull
FRAMES = 1500000
LOGDIR = runs/$(notdir $(ENV))
# make figures RUNS=/data/runs FIGURES=other/folder
RUNS = runs
FIGURES = paper_figures/figures
# Extra flags for `make train`, extra arguments for `make test`.
ARGS =

# In a recipe: sets $$python to a Python 3.11, or ends with a message.
FIND_PYTHON = python=""; \
	for candidate in $(PYTHON) python3.11 python3; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
	    python="$$candidate"; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 is needed (requirements.lock is for it): install it, or name it: make setup PYTHON=/path/to/python3.11" >&2; \
	  exit 1; fi

# $(call NEW_VENV,folder): makes an empty virtual environment in the folder.
NEW_VENV = "$$python" -m venv --clear "$(1)" || { \
	  echo "Could not make a virtual environment: is Python's venv module installed (Debian: apt install python3.11-venv)?" >&2; \
	  exit 1; }

.PHONY: help setup train figures test lint format lock wheel-test clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## build .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(FIND_PYTHON); \
	echo "Installing impala_tf and $$(grep -c '==' requirements.lock) packages (TensorFlow among them) into $(VENV); this takes a few minutes ..."; \
	$(call NEW_VENV,$(VENV)); \
	$(BIN)/python -m pip install $(PIP_FLAGS) -r requirements.lock; \
	$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --no-build-isolation -e .; \
	$(BIN)/python -m pip check; \
	touch $@

train: setup  ## train for 2 to 3 minutes on 2 cores, or resume; evaluate and film the agent (ENV=, FRAMES=, LOGDIR=, ARGS=)
	@$(BIN)/impala-train --env=$(ENV) --logdir=$(LOGDIR) --total_frames=$(FRAMES) $(ARGS)
	@$(BIN)/impala-evaluate --logdir=$(LOGDIR) --episodes=10 --random_policy --video

figures: setup  ## draw the paper's figures and tables, with the runs found in RUNS (RUNS=, FIGURES=)
	@$(BIN)/python paper_figures/execute.py --runs="$(RUNS)" --figures="$(FIGURES)"

test: setup  ## run all tests (ARGS= for pytest)
	@# With bytecode, wherever it is turned off: the tests start the commands more than a hundred times.
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup  ## run ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup  ## format the code, apply ruff's safe fixes
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

lock:  ## resolve all dependencies again and write requirements.lock
	@$(FIND_PYTHON); \
	work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	echo "Resolving the dependencies of impala-tf[figures,ray,test,worlds]; this takes a few minutes ..."; \
	$(call NEW_VENV,$$work/venv); \
	"$$work/venv/bin/python" -m pip install $(PIP_FLAGS) --upgrade pip; \
	"$$work/venv/bin/python" -m pip install $(PIP_FLAGS) --dry-run --ignore-installed --report "$$work/report.json" '.[figures,ray,test,worlds]'; \
	"$$work/venv/bin/python" -c "$$LOCK_FROM_REPORT" "$$work/report.json" >"$$work/lock"; \
	cp "$$work/lock" requirements.lock; \
	echo "requirements.lock: $$(grep -c '==' requirements.lock) packages."

define LOCK_FROM_REPORT
import json, re, sys
print("# All packages of impala-tf[figures,ray,test,worlds] for Python 3.11 on Linux, from one resolution. Made by: make lock")
packages = [p["metadata"] for p in json.load(open(sys.argv[1]))["install"] if not p["is_direct"]]
names = {re.sub("[-_.]+", "-", p["name"]).lower(): p["version"] for p in packages}
print(*(f"{name}=={names[name]}" for name in sorted(names)), sep="\n")
endef
export LOCK_FROM_REPORT

wheel-test: setup  ## build the wheel, install it in a fresh environment and train briefly from another folder
	@$(FIND_PYTHON); \
	work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	rm -rf dist; $(BIN)/python -m build --no-isolation --wheel --outdir dist . >"$$work/build.log" || { cat "$$work/build.log" >&2; exit 1; }; \
	echo "Installing $$(ls dist/*.whl) into a fresh environment; this takes a few minutes ..."; \
	$(call NEW_VENV,$$work/venv); \
	"$$work/venv/bin/python" -m pip install $(PIP_FLAGS) -r requirements.lock; \
	"$$work/venv/bin/python" -m pip install $(PIP_FLAGS) --no-deps dist/*.whl; \
	cd "$$work"; \
	venv/bin/impala-train --help >help.txt; \
	grep -q -- --total_frames help.txt || { echo "impala-train --help does not list the settings:" >&2; cat help.txt >&2; exit 1; }; \
	venv/bin/impala-train --env=catch --logdir="$$work/run" --total_frames=20000; \
	echo "wheel-test: passed"

clean:  ## remove .venv, caches and build results; runs/ stays
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
