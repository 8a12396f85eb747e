# The main commands are `make run` and `make test`. Needs Python >= 3.11 with pip and venv.
PYTHON ?= python3
BIN := .venv/bin
# Most tests wait for servers and browsers: half as many again as two cores.
TEST_WORKERS ?= 3
LOAD_USERS ?= 10 50 100
LOAD_SECONDS ?= 10
LOAD_SHAPE ?= at-once mixed
LOAD_FAULTS ?= redis connections database worker
CHAOS_MINUTES ?= 10
SOAK_USERS ?= 50
SOAK_MINUTES ?= 10
BENCH_REPETITIONS ?= 5
# Parts of the benchmark, all by default: `make bench BENCH_ONLY="warm logins"`.
BENCH_ONLY ?=
REV ?= HEAD

.PHONY: run test lint types tests load lock

.PHONY: help
help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 13

run:  ## Install everything and serve on http://127.0.0.1:8000; prints who can sign in
	@$(PYTHON) scripts/install.py requirements-run.lock
	@$(BIN)/flask demo --quiet
	@exec $(BIN)/gunicorn wsgi:app

test: lint types tests  ## Check everything: lint, types and all tests

lint: dev  ## Check style and known insecure patterns
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/bandit -q -c pyproject.toml -r .

types: dev  ## Check types
	@$(BIN)/mypy .

tests: dev  ## Run all tests on real PostgreSQL, Redis and a browser (TEST_WORKERS)
	@$(PYTHON) scripts/system_packages.py
	@$(BIN)/pytest -n $(TEST_WORKERS) --dist worksteal

load: dev  ## Load a freshly started app; fails if a rule or a time limit is broken (LOAD_USERS)
	@$(BIN)/python -m benchmarks.load --users $(LOAD_USERS) --seconds $(LOAD_SECONDS) \
		--shape $(LOAD_SHAPE)

# The same load with injected faults: one run for each fault, with its own allowed errors.
.PHONY: load-with-faults
load-with-faults: dev  ## Load it while Redis, PostgreSQL or a worker fails (LOAD_FAULTS)
	@for fault in $(LOAD_FAULTS); do $(BIN)/python -m benchmarks.load_with_faults --only $$fault \
		--report instance/load/$$fault || exit 1; done

# A random mix for minutes: logins, repairs, imports, commands, webhook messages and faults.
.PHONY: chaos
chaos: dev  ## Run a random mix of work and faults (CHAOS_MINUTES)
	@$(BIN)/python -m benchmarks.chaos --minutes $(CHAOS_MINUTES)

# Every speed target beside its yardstick, in one run (docs/performance.md); use an idle machine.
.PHONY: bench
bench: dev  ## Measure every speed target; about twelve minutes on an idle machine
	@$(BIN)/python -m benchmarks.bench --repetitions $(BENCH_REPETITIONS) \
		$(addprefix --only ,$(BENCH_ONLY))

# This checkout beside another revision, in alternating slices: `make bench-compare REV=main`.
.PHONY: bench-compare
bench-compare: dev  ## Measure this checkout beside another one (REV=main)
	@$(BIN)/python -m benchmarks.compare "$(REV)" --repetitions $(BENCH_REPETITIONS) \
		$(addprefix --only ,$(BENCH_ONLY))

# Known vulnerabilities of the locked packages; passes if their database is not reachable.
.PHONY: audit
audit: dev  ## List known vulnerabilities of the locked packages; compare Clerk's constants
	@$(BIN)/python -m scripts.pip_audit
	@$(BIN)/python -m scripts.clerk_constants --check

# Ten minutes of load: checks that memory stays flat and every connection is returned.
.PHONY: soak
soak: dev  ## Check for ten minutes that memory stays flat (SOAK_MINUTES)
	@$(BIN)/python -m benchmarks.soak --users $(SOAK_USERS) --minutes $(SOAK_MINUTES)

# The database of DATABASE_URL, or the embedded one; docs/operations.md has the whole procedure.
.PHONY: drill
drill: dev  ## Dump the database, restore it into a fresh one, and compare (DRILL="--into URL")
	@$(BIN)/python -m scripts.drill $(DRILL)

.PHONY: image-check
image-check: dev  ## Build the container image without Docker, check its content, start it (root)
	@$(BIN)/python -m scripts.image_check

.PHONY: dev
dev:  ## Install the development environment only
	@$(PYTHON) scripts/install.py requirements-dev.lock

# After a change of pyproject.toml: the same versions in production, for `make run` and for tests.
lock: dev  ## Rewrite the lock files after a change of pyproject.toml
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
		--no-header --extra dev --extra dev-db pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
		--no-header -c requirements-dev.lock --extra dev-db pyproject.toml -o requirements-run.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
		--no-header -c requirements-dev.lock pyproject.toml -o requirements.lock
	@echo sentry-sdk | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header -c requirements-dev.lock - -o requirements-sentry.lock
