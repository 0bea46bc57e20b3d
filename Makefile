# Everything runs from .venv, which is made once from the locked versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# As many test processes as cores; the tests of one process share their embedded servers.
TEST_PROCESSES ?= auto

.DEFAULT_GOAL := help

.PHONY: help
help: ## what there is (this list)
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk 'BEGIN {FS = ":.*## "} {printf "  make %-12s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Plumbline needs Python 3.11 or later; name one with: make PYTHON=python3.11 …"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

.PHONY: demo
demo: $(READY) ## the whole system on simulated Jira and GitLab and really executed tests, checked, in a minute
	$(BIN)/plumbline demo

.PHONY: up
up: $(READY) ## worker, beat, API and Flower with what is not configured embedded; Ctrl-C stops all
	$(BIN)/plumbline up

.PHONY: test
test: $(READY) ## all tests, in parallel
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

.PHONY: postgresql-15
postgresql-15: ## PostgreSQL 15 from the packages of a Debian system, for the tests that run on it too; needs root
	.ci/postgresql-15

.PHONY: schedules
schedules: $(READY) ## a thousand random schedules of trouble during syncs, each ending equal to the source
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal tests/flow/test_random_schedules.py --schedules 1000

.PHONY: format
format: $(READY) ## put the code into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: lint
lint: $(READY) ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: docs-check
docs-check: $(READY) ## links, paths and commands named in the documents exist, and docs/schema.md says what the models say
	$(BIN)/python docs/check.py
	$(BIN)/python docs/schema.py --check

.PHONY: check
check: lint docs-check test ## what CI runs before the demo

.PHONY: bench
bench: $(READY) ## speed as a ratio to the limit measured in the same run
	$(BIN)/python -m benchmarks.sync
	$(BIN)/python -m benchmarks.scale_out
	$(BIN)/python -m benchmarks.capture
	$(BIN)/python -m benchmarks.freshness

.PHONY: lock
lock: ## write constraints.txt anew from the newest versions that pyproject.toml allows
	rm -rf .venv/lock && $(PYTHON) -m venv .venv/lock
	.venv/lock/bin/python -m pip install --quiet '.[dev]'
	.venv/lock/bin/python -m pip freeze --exclude plumbline > constraints.txt
