# `make` alone prints this help. Every target that needs the environment builds it first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test slow check format bench clean

help: ## Print this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make the environment in .venv, with the `senet` command in it
	@echo "ready: . $(BIN)/activate, or call $(BIN)/senet"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "senet needs Python 3.11 or newer; name one: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@# For their files alone: a network with SE that others trained, and a page of text
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python \
		rapidocr-onnxruntime==1.4.4 scikit-image==0.26.0
	@touch $(STAMP)

demo: $(STAMP) ## Train an SE network and its plain twin on Fashion-MNIST; the page is runs/demo/report.html
	@sh tools/system-packages.sh dataset-fashion-mnist
	$(BIN)/senet twins fashion.resnet8 fashion.seresnet8 --seeds 3 --epochs 3 --set data.limit=30000 --out runs/demo --resume

test: $(STAMP) ## Run the tests
	@sh tools/system-packages.sh chromium dataset-fashion-mnist
	$(BIN)/python -m pytest -n 2

slow: $(STAMP) ## Run the tests that take minutes, which the others leave out
	@sh tools/system-packages.sh dataset-fashion-mnist
	$(BIN)/python -m pytest -m slow

check: $(STAMP) ## Lint, format, types, one-way imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Rewrite the code in the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Measure the training loop and the networks against their peers
	$(BIN)/python benchmarks/loop.py
	$(BIN)/python benchmarks/networks.py

clean: ## Remove the environment and what the tools left
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
