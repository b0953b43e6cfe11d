# make demo    install the core, then the main job on handwritten digits
# make test    install everything for developers, then lint, type-check and test
# make help    the rest
#
# All Python packages go into .venv, none into the system. Variables: PYTHON (3.11 or newer), JOBS (processes of
# the test run), NETWORKS (of the fuzzing campaign), PYTEST (more arguments for pytest).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The first Python that runs and is new enough; looked for only when .venv has to be made.
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
  $$p $(NEW_ENOUGH) 2>/dev/null && echo $$p && break; done)
JOBS ?= 2
NETWORKS ?= 1000
SECONDS ?= 600
TENSORFLOW_TESTS = tests/training tests/frontends/test_keras_differential.py
PYTEST ?=

comma := ,
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
CPP = $(shell find hls_templates c_templates -name '*.h' -o -name '*.hpp' -o -name '*.c' -o -name '*.cpp' | sort)

.PHONY: help env dev demo test check lint format exhaustive fuzz fuzz-decoder docs wheel clean distclean compiler tools

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

# --- environment ----------------------------------------------------------------------------------------------------

env: $(VENV)/.core ## .venv with the toolchain and its core dependencies
	@echo "$(VENV) is ready"

dev: $(VENV)/.dev ## .venv with everything that developing wants
	@echo "$(VENV) is ready"

$(BIN)/python:
	@[ -n "$(PYTHON)" ] && $(PYTHON) $(NEW_ENOUGH) 2>/dev/null || { \
	  echo "error: Python 3.11 or newer is needed$(if $(PYTHON),$(comma) and '$(PYTHON)' is not)." \
	    "Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "==> $(VENV): a new virtual environment of $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "error: $(PYTHON) cannot make a virtual environment. On Debian: sudo apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.core: pyproject.toml | $(BIN)/python
	@echo "==> $(VENV): installing dct-toolchain and its core dependencies from PyPI"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.core
	@echo "==> $(VENV): installing the development tools (extra: dev) from PyPI"
	@$(PIP) install --editable '.[dev]'
	@touch $@

# $(call debian,COMMAND:PACKAGE ...) installs the packages whose command or file is missing, or says how to.
define debian
@missing=; \
for pair in $(1); do need=$${pair%%:*}; \
  command -v $$need >/dev/null || [ -e $$need ] || missing="$$missing $${pair##*:}"; done; \
if [ -n "$$missing" ]; then \
  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    echo "==> system: installing$$missing with apt-get"; \
    apt-get update -qq; \
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing </dev/null >/dev/null; \
  else \
    echo "error: missing tools. Type: sudo apt-get install$$missing" >&2; \
    exit 1; \
  fi; \
fi
endef

compiler:
	$(call debian,g++:g++ make:make)

# What tests run beside the compiler: Tcl, device trees, ssh, host programs for ARM, AArch64 and XRT, and emulated
# microcontrollers.
tools:
	$(call debian,g++:g++ make:make tclsh:tcl dtc:device-tree-compiler ssh:openssh-client \
	  /usr/sbin/sshd:openssh-server qemu-arm:qemu-user /usr/include/xrt/xrt/xrt_kernel.h:libxrt-dev \
	  arm-linux-gnueabihf-gcc:gcc-arm-linux-gnueabihf arm-linux-gnueabihf-g++:g++-arm-linux-gnueabihf \
	  aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu /usr/arm-linux-gnueabihf/include/stdio.h:libc6-dev-armhf-cross \
	  /usr/aarch64-linux-gnu/include/stdio.h:libc6-dev-arm64-cross \
	  arm-none-eabi-gcc:gcc-arm-none-eabi /usr/lib/picolibc/arm-none-eabi:picolibc-arm-none-eabi \
	  qemu-system-arm:qemu-system-arm riscv64-unknown-elf-gcc:gcc-riscv64-unknown-elf \
	  /usr/lib/picolibc/riscv64-unknown-elf:picolibc-riscv64-unknown-elf qemu-system-riscv32:qemu-system-misc \
	  cmake:cmake cppcheck:cppcheck clang:clang clang-tidy:clang-tidy)

# --- the two commands of the README -----------------------------------------------------------------------------------

demo: compiler $(VENV)/.core ## the main job on handwritten digits (core only, no TensorFlow)
	@$(BIN)/python examples/digits/demo.py

test: tools check ## lint, types, formatting, then all tests
	@echo "==> pytest, $(JOBS) processes"
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(addprefix --ignore=,$(TENSORFLOW_TESTS)) $(PYTEST)
	@echo "==> pytest of what loads TensorFlow, which makes everything else in its process slower"
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(TENSORFLOW_TESTS) $(PYTEST)

# --- for developers ---------------------------------------------------------------------------------------------------

check: $(VENV)/.dev
	@echo "==> ruff check"
	@$(BIN)/ruff check --quiet
	@echo "==> ruff format --check"
	@$(BIN)/ruff format --check --quiet || { echo "error: not formatted as ruff does it. Type: make format" >&2; exit 1; }
	@echo "==> mypy --strict toolchain"
	@$(BIN)/mypy --strict --no-error-summary toolchain
	@echo "==> clang-format of $(words $(CPP)) C and C++ files"
	@$(if $(CPP),$(BIN)/clang-format --dry-run -Werror $(CPP))

lint: check ## ruff, mypy and clang-format, changing nothing

format: $(VENV)/.dev ## rewrite Python and C++ in the project's format
	@$(BIN)/ruff check --quiet --fix || true
	@$(BIN)/ruff format
	@$(if $(CPP),$(BIN)/clang-format -i $(CPP))

exhaustive: tools $(VENV)/.dev ## the long forms of tests
	@$(BIN)/python -m pytest -n $(JOBS) -m exhaustive $(PYTEST)

fuzz-decoder: tools $(VENV)/.dev ## SECONDS=600 of libFuzzer on the C decoders of packed weights
	@$(BIN)/python -m tests.packing.fuzz_decoder --seconds $(SECONDS)

fuzz: tools $(VENV)/.dev ## NETWORKS=1000 random networks: python = C++ = ..., zero differing bits
	@$(BIN)/python -m tests.fuzz --networks $(NETWORKS)

docs: $(VENV)/.core ## rewrite docs/operators.md from the registry of operators
	@$(BIN)/python -m toolchain.report.operators > $(VENV)/operators.md
	@mv $(VENV)/operators.md docs/operators.md

wheel: $(VENV)/.dev ## wheel and source archive into dist/
	@$(BIN)/python -m build --no-isolation --outdir dist .

clean: ## remove what was built; .venv stays
	@rm -rf build dist wheels .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

distclean: clean ## remove .venv too
	@rm -rf $(VENV)
