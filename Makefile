# make demo    the main job on a small rendered world, about five minutes; its last line serves the gallery
# make test    the tests, but for those that take very long
# make thorough   all of them, with the shapes of every call checked
# make check   format, lint, types, documents and tests
# make docs    the documentation site in site/; a broken link or an undocumented page fails it
# make quick   format, lint, types and the quick tests
# make processors   the tests as on other processors: each of SETTINGS in turn; takes that many times the time of make test
# make bench   the benchmarks, `python -m benchmarks` lists them
# Each sets up .venv by itself, from the package registry alone.

PYTHON ?= python3
BIN := .venv/bin

# Instruction sets of torch, MKL, oneDNN, OpenBLAS and NumPy, and the number of threads. MKL chooses by MKL_ENABLE_INSTRUCTIONS
# on Intel's processors alone, by MKL_CBWR on all.
SETTINGS := ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 ATEN_CPU_CAPABILITY=avx512 \
	MKL_ENABLE_INSTRUCTIONS=SSE4_2 MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=AVX2 \
	OPENBLAS_CORETYPE=Haswell PRVR_TEST_THREADS=2

# The tests start some hundred processes. Where no byte code may be kept, each of them compiles torch and all else anew: more
# than half of the time of all tests, where nothing was compiled when it was installed.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test compiled thorough check processors quick lint types docs bench $(SETTINGS)

demo: .venv/demo
	$(BIN)/prvr demo demo

# Three processes on two cores: many tests wait for a browser, a process or a clock.
test: .venv/installed
	$(BIN)/pytest -n 3 --dist worksteal -m "not thorough"

thorough: .venv/installed
	PRVR_TEST_SHAPES=all $(BIN)/pytest -n 3 --dist worksteal

# Compiles the tests and all that they import, once and not by each of three processes at the same time.
compiled: .venv/installed
	-$(BIN)/pytest --collect-only -qq > /dev/null

processors: $(SETTINGS)

$(SETTINGS): .venv/installed
	env $@ $(BIN)/pytest -n 3 --dist worksteal

check: lint types docs test

quick: lint types
	$(BIN)/pytest -m "not slow and not thorough"

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/installed
	$(BIN)/mypy

# The variable silences an announcement of the theme's makers.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: .venv/installed
	$(BIN)/python -m benchmarks all
	for script in distributed extraction serving; do $(BIN)/python -m benchmarks.$$script || exit 1; done

# What the demo needs is half of what the tests need.
.venv/demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[video,encoders,index,serve]'
	touch $@

.venv/installed: .venv/demo
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@
