# The main commands are `make run` and `make test`. Needs Python >= 3.11 with pip and venv.
PYTHON ?= python3
BIN := .venv/bin
# One for each core; with more, tests wait for each other.
TEST_WORKERS ?= 2
LOAD_USERS ?= 10 50 100
LOAD_SECONDS ?= 10
LOAD_SHAPE ?= at-once mixed
MISHAPS ?= redis connections database worker
CHAOS_MINUTES ?= 10
SOAK_USERS ?= 50
SOAK_MINUTES ?= 10
BENCH_REPETITIONS ?= 5

.PHONY: run test lint types tests load lock

run:
	@$(PYTHON) scripts/install.py requirements-run.lock
	@$(BIN)/flask demo --quiet
	@exec $(BIN)/gunicorn wsgi:app

test: lint types tests

lint: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/bandit -q -c pyproject.toml -r .

types: dev
	@$(BIN)/mypy .

tests: dev
	@$(PYTHON) scripts/system_packages.py
	@$(BIN)/pytest -n $(TEST_WORKERS) --dist worksteal

load: dev
	@$(BIN)/python -m benchmarks.load --users $(LOAD_USERS) --seconds $(LOAD_SECONDS) \
		--shape $(LOAD_SHAPE)

# The same load with injected faults: one run for each fault, with its own allowed errors.
.PHONY: mishaps
mishaps: dev
	@for mishap in $(MISHAPS); do $(BIN)/python -m benchmarks.load_with_faults --only $$mishap \
		--report instance/load/$$mishap || exit 1; done

# A random mix for minutes: logins, repairs, imports, commands, webhook messages and faults.
.PHONY: chaos
chaos: dev
	@$(BIN)/python -m benchmarks.chaos --minutes $(CHAOS_MINUTES)

# Every speed target beside its yardstick, in one run (docs/performance.md); use an idle machine.
.PHONY: bench
bench: dev
	@$(BIN)/python -m benchmarks.bench --repetitions $(BENCH_REPETITIONS)

# Known vulnerabilities of the locked packages; passes if their database is not reachable.
.PHONY: audit
audit: dev
	@$(BIN)/python -m scripts.pip_audit

# Ten minutes of load: checks that memory stays flat and every connection is returned.
.PHONY: soak
soak: dev
	@$(BIN)/python -m benchmarks.soak --users $(SOAK_USERS) --minutes $(SOAK_MINUTES)

.PHONY: dev
dev:
	@$(PYTHON) scripts/install.py requirements-dev.lock

# After a change of pyproject.toml: the same versions in production, for `make run` and for tests.
lock: dev
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
		--no-header --extra dev --extra dev-db pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
		--no-header -c requirements-dev.lock --extra dev-db pyproject.toml -o requirements-run.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate \
		--no-header -c requirements-dev.lock pyproject.toml -o requirements.lock
