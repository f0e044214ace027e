# Every target sets up what it needs in .venv, from Python >= 3.11 with venv, the package index and a C compiler.
PYTHON ?= python3
BIN := .venv/bin
INPUTS := pyproject.toml setup.py $(wildcard src/*) $(wildcard margincore/kernels/*.pxd) \
          $(wildcard margincore/include/*.h)
INSTALL = $(BIN)/python -m pip install --quiet --editable

# The demo takes the environment of the tests or benchmarks where there is one.
READY := $(firstword $(wildcard .venv/installed-test .venv/installed-bench) .venv/installed)

.PHONY: demo test bench lint wheel clean

demo: $(READY)
	$(BIN)/margincore demo

test: .venv/installed-test
	$(BIN)/python -m pytest

bench: .venv/installed-bench
	mkdir -p build
	$(BIN)/python -m pytest benchmarks --benchmark-json=build/benchmark.json
	$(BIN)/python benchmarks/table.py build/benchmark.json

lint: .venv/installed-lint
	$(BIN)/ruff check .
	$(BIN)/cython-lint src margincore/kernels
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest margincore.kernels --allowlist tests/stubtest_allowlist.txt \
		--ignore-disjoint-bases --ignore-unused-allowlist --mypy-config-file pyproject.toml

wheel: .venv/bin/python
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf .venv build dist *.egg-info
	find margincore -name '*.so' -delete

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "margincore needs Python 3.11 or later")'
	$(PYTHON) -m venv .venv

# One file per extra says when it was last installed; any change of a source builds and installs again.
.venv/installed: .venv/bin/python $(INPUTS)
	@echo 'compiling the kernels and installing into .venv: a minute or two'
	$(INSTALL) .
	touch $@

.venv/installed-%: .venv/bin/python $(INPUTS)
	@echo 'compiling the kernels and installing into .venv: a minute or two'
	$(INSTALL) '.[$*]'
	touch $@
