# Every target makes its own virtual environment and installs with the constraints, so that nothing can move torch.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test test-all check format lint types imports doctest bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)  ## fit an embedded data set: a model, its predictions and its report in demo/
	$(BIN)/kokkiri fit breast-cancer --out demo/model --overwrite
	$(BIN)/kokkiri predict demo/model breast-cancer --out demo/predictions.csv
	@echo "look at demo/model/report.html"

test: $(INSTALLED)  ## the tests, but the slow ones
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

test-all: $(INSTALLED)  ## all tests; those on real data need KOKKIRI_DATA
	$(BIN)/python -m pytest -q -n 2

check: lint types imports doctest test  ## what CI runs: format, lint, types, import directions, doctests, tests

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/basedpyright

imports: $(INSTALLED)
	$(BIN)/lint-imports

doctest: $(INSTALLED)
	$(BIN)/python -m pytest -q -p no:cacheprovider --doctest-modules src/kokkiri

format: $(INSTALLED)  ## mend what can be mended by machine
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## measure, and write benchmarks/results/: hours, shortest first
	for name in overhead outliers update bayesian_networks causal_graphs estimates mnist yardstick accuracy uci posterior \
	  default_posterior permuted_mnist mnist_posterior quote; do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:  ## forget the environment and what was made
	rm -rf .venv demo .pytest_cache .hypothesis .ruff_cache .import_linter_cache
