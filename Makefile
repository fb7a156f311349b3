# Everything a person or CI does with this repository. `make` alone lists it.
#
# All of it happens in one virtual environment, .venv. The stamp files in it say what it already holds, so every
# target can be run again at no cost, and a changed pyproject.toml or constraints.txt installs anew.

PYTHON ?= python3
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest
LINTED := src tests tools bench
# tests without other people's CLIPs, which ask for newer versions, and without tools that only developers have
OLDEST := answers architecture bfloat16 clip cli cli_bad cli_bench cli_inputs cli_screen convert demo embed engines families \
	finetune gallery gallery_ask gallery_index hub hub_broken hub_progress hub_url image kept layouts memory metrics modelscope pixels records resolve sheet text \
	text_files threads train unigram weights weights_flax weights_hdf5 wordpiece

.DEFAULT_GOAL := help
.PHONY: help demo test test-hub test-gpu test-oldest test-nightly resolve check format lint types contracts fix bench moji install install-dev clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/base  ## search the bundled pictures in five languages; writes demo.png (no network, no torch)
	@.venv/bin/python tools/demo.py --sheet demo.png

test: .venv/dev  ## the whole offline suite, a file of tests on each core
	@$(PYTEST) --numprocesses auto --maxprocesses 4 --dist loadfile

test-hub: .venv/dev  ## the tests that need the network and published weights
	@$(PYTEST) -m hub

test-gpu: .venv/dev  ## the tests that need a CUDA device, and a torch that was built for it in .venv
	@$(PYTEST) -m gpu

test-oldest: .venv-oldest/ready  ## what users run, with the least versions that pyproject.toml allows
	@OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest $(OLDEST:%=tests/test_%.py)

test-nightly: .venv/dev  ## the tests that take many minutes: more than 20,000 spoilt files
	@$(PYTEST) -m nightly -s

resolve: .venv/dev  ## whether pip can install it on each Python and system (asks PyPI, about 20 minutes)
	@.venv/bin/python tools/resolve_check.py

check: format lint types contracts  ## formatting, lint, types, import contracts

format: .venv/dev
	@echo "format"; .venv/bin/ruff format --quiet --diff $(LINTED)

lint: .venv/dev
	@echo "lint"; .venv/bin/ruff check --quiet $(LINTED)
	@.venv/bin/ruff check --quiet --isolated --select F821 tests tools bench

types: .venv/dev
	@echo "types"; .venv/bin/pyright

contracts: .venv/dev
	@echo "contracts"; .venv/bin/lint-imports --no-logo

fix: .venv/dev  ## format, and repair what the linter can repair
	@.venv/bin/ruff format $(LINTED)
	@.venv/bin/ruff check --fix $(LINTED)

bench: .venv/dev  ## speed, measured beside the peers in the same run
	@.venv/bin/python -m bench

moji: .venv/dev  ## rebuild the bundled pictures, captions and model from their sources (needs npm and two hours)
	.venv/bin/python -m tools.moji_data build
	.venv/bin/python -m tools.moji_data render 64 96
	.venv/bin/python -m tools.moji_train
	.venv/bin/python -m tools.moji_golden
	.venv/bin/python -m tools.moji_train --evaluate

install: .venv/base  ## .venv with cjkclip and, where it has a release, OpenVINO

install-dev: .venv/dev  ## .venv with everything that tests and checks need

clean:  ## remove .venv, caches and what demo and bench wrote
	rm -rf .venv .venv-oldest .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist demo.png bench/out
	find $(LINTED) -name __pycache__ -prune -exec rm -rf {} +

.venv/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("cjkclip needs Python 3.11 or newer, \
	$(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" % v[:2])'
	@echo "making .venv"; $(PYTHON) -m venv .venv && touch $@

.venv/base: pyproject.toml constraints.txt | .venv/python
	@echo "installing cjkclip into .venv"; $(PIP) --editable '.[openvino]' || { $(PIP) --editable . && \
	echo "OpenVINO has no release for this system (see above): cjkclip runs without it, more slowly"; } && touch $@

.venv-oldest/ready: pyproject.toml constraints-oldest.txt
	@echo "installing the oldest versions into .venv-oldest"; $(PYTHON) -m venv .venv-oldest
	@.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-oldest.txt \
	--editable '.[openvino,rinna,train,h5]' beartype hypothesis pytest safetensors && touch $@

.venv/dev: pyproject.toml constraints.txt requirements-peers.txt | .venv/base
	@echo "installing the development tools and torch into .venv"; $(PIP) --editable '.[dev]'
	@$(PIP) --no-deps --requirement requirements-peers.txt && touch .venv/base $@
