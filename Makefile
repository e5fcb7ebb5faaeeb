# make train: set up and train on real digits. make test: set up and run every test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt $(shell find csrc -type f)

.PHONY: train test lint bench clean

train: $(VENV)/.installed
	$(BIN)/needle train digits

test: $(VENV)/.installed
	$(BIN)/pytest -q -n auto --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --strict --follow-imports=silent tests/typing
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cuh')

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/report.py

# Reinstalled when the C++ sources or the build change; Python sources are used in place. Without
# isolation only what changed is compiled again.
$(VENV)/.installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --group build
	$(BIN)/pip install --quiet --no-build-isolation --editable '.[cli,test]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --group dev
	touch $@

clean:
	rm -rf $(VENV) build dist
