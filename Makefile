# Everything runs in the project's own virtual environment, made at the first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: install lint type test demo clean

install: $(VENV)/.installed

$(VENV)/.installed: Makefile pyproject.toml requirements/torch.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements/torch.txt
	$(BIN)/python -m pip install --quiet -e '.[onedl,crf,dev]'
	touch $@

lint: install
	$(BIN)/ruff check .

type: install
	$(BIN)/mypy

test: lint type
	$(BIN)/python -m pytest -n 2

# The ablation on the demo's scenes and pictures of a few, offline: see work_dirs/demo.
demo: install
	$(BIN)/python demo/run.py

clean:
	rm -rf $(VENV) build dist *.egg-info
