# Everything starts from Python 3.11+, make and git:  make test  ·  make demo  ·  make help

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
QT ?= pyqt6
DEMO ?= demo-output

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The tests' networks are tiny: more threads make them slower.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PYTEST = $(BIN)/python -m pytest $(PYTEST_ARGS)
# Two jobs for two cores; each shows what it said when it is done, and one that fails does not stop the others.
CHECKS = @$(MAKE) --jobs=2 --keep-going --output-sync=target lint types manifest test-library test-plugin

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-13s %s\n", $$1, $$2 }' Makefile

.PHONY: venv
venv: $(READY) ## make .venv and install the package into it, editable, with the tools

$(READY): pyproject.toml constraints.txt
	@scripts/make_venv.sh $(PYTHON) $(VENV) $(QT)
	@touch $@

.PHONY: screen-packages
screen-packages:
	@scripts/debian_packages.sh screen

.PHONY: lint
lint: $(READY) ## ruff, and the arrows plugin -> training -> core
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

.PHONY: types
types: $(READY) ## mypy, strict
	$(BIN)/mypy

.PHONY: manifest
manifest: $(READY) ## the napari manifest
	$(BIN)/npe2 validate napari-perceive-ir

.PHONY: test-library
test-library: $(READY) ## the tests of core and training alone
	$(PYTEST) tests/core tests/training $(MARKED)

.PHONY: test-plugin
test-plugin: screen-packages $(READY) ## the tests of the plugin alone, on a virtual screen
	scripts/with_screen.sh $(PYTEST) tests/napari_perceive_ir $(MARKED)

.PHONY: test
test: screen-packages $(READY) ## lint, types, contracts, manifest, and the quick tests
	$(CHECKS) MARKED="-m 'not slow and not gpu'"

# napari then fails a test that leaves widgets behind, or touches the viewer from another thread.
test-all: export NAPARI_STRICT_QT = 1
test-all: export NAPARI_ENSURE_PLUGIN_MAIN_THREAD = 1
.PHONY: test-all
test-all: screen-packages $(READY) ## all of `test`, the slow tests, other Qt and napari, the wheel by itself
	$(CHECKS)
	scripts/test_elsewhere.sh $(VENV) pyside6 $(PYTEST_ARGS) -m 'not slow'
	scripts/test_elsewhere.sh $(VENV) napari07 $(PYTEST_ARGS) -m 'not slow'
	scripts/smoke_test.sh $(PYTHON) $(BIN)/python

.PHONY: demo
demo: $(READY) ## restore sample pictures, write a page that shows them, open napari where there is a screen
	@if [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ]; then scripts/debian_packages.sh screen || true; fi
	$(BIN)/perceive-ir demo -o $(DEMO)
	@if [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ]; then \
		$(BIN)/napari --with napari-perceive-ir Restore; \
	else \
		echo "No screen here, so napari was not opened: look at $(DEMO)."; \
	fi

.PHONY: clean
clean: ## remove what was built, .venv included
	rm -rf $(VENV) .venv-* $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find core training napari_perceive_ir tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
