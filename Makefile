# make demo   trains the small CNN on drawn faces, evaluates it and says where the report lies
# make test   the tests; make lint   ruff and types
# make parity installs torch, with which the tests compare the networks where it is there
# make bench  measures the CPU rows of docs/performance.md against PyTorch, in about six minutes
# Each sets up its own environment. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv/$(notdir $(PYTHON))
BIN := $(VENV)/bin
# Virtual CPU devices in the tests deadlock on machines with few cores unless XLA's thread pool is larger.
export NPROC ?= 8

.PHONY: demo test parity lint bench

demo: $(VENV)/.ready
	$(BIN)/python -m fakeimg.main --config configs/demo.py --workdir runs/demo
	$(BIN)/python -m fakeimg.evaluate --workdir runs/demo --split test

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2

parity: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[parity]'

bench: parity
	$(BIN)/python benchmarks/against_torch.py --workdir runs/bench

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

$(VENV)/.ready: pyproject.toml constraints.txt launch/make_venv.sh
	@launch/make_venv.sh "$(PYTHON)" "$(VENV)"
