# make demo      trains the small CNN on drawn faces, evaluates it and says where the report lies
# make test      the tests but the slow ones; make test-all: every test
# make lint      ruff, types, the floors of the package, declared dependencies
# make torch     installs torch: some tests compare with it, benchmarks and .pth files need it
# make gpu       measures the GPU rows of docs/performance.md, in at most nine minutes
# make bench     measures the CPU rows of docs/performance.md against PyTorch, in about six minutes
# make wheelhouse PYTHON_VERSION=3.12    gathers wheels for a machine without internet
# Each target sets up the environment that it needs. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv/$(notdir $(PYTHON))
BIN := $(VENV)/bin
# Virtual CPU devices in the tests deadlock on machines with few cores unless XLA's thread pool is larger.
export NPROC ?= 8
# Neighbouring tests share what they compile, so each worker begins with half of the files.
WORKERS ?= -n 2 --dist worksteal
PYTHON_VERSION ?= 3.12

.PHONY: demo test test-all lint torch bench gpu wheelhouse

demo: $(VENV)/.ready
	$(BIN)/fakeimg train --config demo
	$(BIN)/fakeimg evaluate --workdir runs/demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest $(WORKERS) -m "not slow"

test-all: $(VENV)/.ready
	$(BIN)/python -m pytest $(WORKERS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry .

torch: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[torch]'

bench: torch
	$(BIN)/python benchmarks/against_torch.py --workdir runs/bench

gpu: $(VENV)/.ready
	$(BIN)/python benchmarks/gpu.py

wheelhouse: $(VENV)/.ready
	$(BIN)/python launch/wheelhouse.py --python_version $(PYTHON_VERSION)

$(VENV)/.ready: pyproject.toml constraints.txt launch/make_venv.sh
	@launch/make_venv.sh "$(PYTHON)" "$(VENV)"
