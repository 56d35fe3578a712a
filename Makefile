# make demo    the main job on a small rendered world, about four minutes; then open demo/report.html
# make test    the tests
# make check   format, lint, types and tests
# make quick   the same without the slow tests, in under a minute
# make bench   the benchmarks, `python -m benchmarks` lists them
# Each sets up .venv by itself, from the package registry alone.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check quick lint types bench

demo: .venv/installed
	$(BIN)/prvr demo demo

# Two processes: most tests wait for one core.
test: .venv/installed
	$(BIN)/pytest -n 2 --dist worksteal

check: lint types test

quick: lint types
	$(BIN)/pytest -m "not slow"

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/installed
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python -m benchmarks all
	for script in distributed extraction serving; do $(BIN)/python -m benchmarks.$$script || exit 1; done

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@
