# Everything runs in the project's own virtual environment, made at the first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: install lint type test docs package demo clean

install: $(VENV)/.installed

$(VENV)/.installed: Makefile pyproject.toml requirements/torch.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile -r requirements/torch.txt \
		-e '.[onedl,crf,web,onnx,heic,jxl,parquet,http,sam,faiss,docs,dev]'
	# pip compiles with one core. A few packages bring files that are no Python: no error.
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib/python*/site-packages || true
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: install
	$(BIN)/mypy

test: lint type
	# Two processes on two cores: more threads, in what the tests start, would wait for each other.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations 25

# Every warning is an error. The pages are in docs/_build/html.
docs: install
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# Source archive and wheel, and the demo from the wheel in a clean environment.
package: install
	rm -rf build dist
	$(BIN)/python -m build --outdir dist .
	bash tools/dev/try_wheel.sh dist/*.whl $(BIN)/python

# The ablation on the demo's scenes and pictures of a few, offline: see work_dirs/demo.
demo: install
	$(BIN)/python demo/run.py

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info
