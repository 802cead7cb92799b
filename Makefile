# Everything that a person or CI calls. `make demo` and `make test` need Python 3.11 and make, nothing else.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: help demo test check bench loadtest openapi proto lock clean

help:  ## Show the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

# One virtual environment for all targets, made again when the dependencies change. Versions are pinned
# in constraints.txt.
$(VENV)/installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (once, about half a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt --editable '.[server,gpu,examples,test]'
	@touch $@

demo: $(VENV)/installed  ## Train on real data against a real server: compare, crash, go on, fork; read it back.
	@$(BIN)/python -m examples.demo

test: $(VENV)/installed  ## Run all checks and all tests.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy --namespace-packages --explicit-package-bases loadtests examples tools tests/typing
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -n auto --dist loadfile

BENCHES = log_call training_cost freshness ingest access endurance mixed move lineage queries growth storage unmerged backup driver_path wire_layout

bench: $(VENV)/installed  ## Measure, and write loadtests/reports/. Takes about an hour.
	@failed=; for name in $(BENCHES); do $(BIN)/python -m loadtests.$$name || failed="$$failed $$name"; done; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

loadtest: $(VENV)/installed  ## Put users of locust on a server of their own for a minute.
	@$(BIN)/python -m loadtests.mixed

openapi: $(VENV)/installed  ## Write docs/openapi.json from the code.
	@$(BIN)/python tools/write_openapi.py

proto: $(VENV)/installed  ## Generate sdk/thalweg/wire/v1 from proto/.
	@$(BIN)/python tools/generate_wire.py

lock: $(VENV)/installed  ## Write the versions that are installed now to constraints.txt.
	@$(BIN)/python tools/write_constraints.py

clean:  ## Remove what the other targets made.
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
