# The one front door. `make help` lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
MEMBERS := schemas libs/core libs/runtime services/extractor services/transformer services/loader cli sandbox
.DEFAULT_GOAL := help
.PHONY: help setup check format test test-fast test-long laws demo chaos soak bench bench-start bench-arrival bench-transformer bench-loader bench-reconcile bench-growth simulate bench-extractor docs alone profile-schema lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.ready: requirements/dev.txt $(MEMBERS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "estarsync needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Say which to use: make setup PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(MEMBERS:%=-e ./%)
	@touch $@

setup: .venv/.ready ## install everything into .venv, and fetch Kafka where a JDK and Maven are present
	@$(BIN)/sandbox kafka fetch

check: .venv/.ready ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.ready ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Tests with real processes, sockets and brokers may fail for the machine's sake. Such a one is run once more, and named.
AGAIN := --reruns 1 --reruns-delay 5 -rR

test-fast: .venv/.ready ## the tests that need no broker, in a few minutes; the core's every branch must be run
	$(BIN)/coverage run -m pytest tests/unit tests/property
	$(BIN)/coverage report
	$(BIN)/pytest $(AGAIN) tests/contract

test: test-fast ## every test but the long ones; a real Kafka is required and started where none is given
	REQUIRE_KAFKA=1 $(BIN)/pytest $(AGAIN) -m "(kafka or e2e) and not long" --durations=10

test-long: .venv/.ready ## the tests that take minutes each; some need Docker, Prometheus or kcat
	REQUIRE_KAFKA=1 $(BIN)/pytest -m long

simulate: .venv/.ready ## the delivery engine under random faults, by seed (SEEDS=1-200)
	SEEDS=$(or $(SEEDS),1-200) $(BIN)/pytest -q -x tests/contract/test_loader_simulation.py tests/contract/test_loader_people.py

laws: .venv/.ready ## the property tests with new examples, ROUNDS times (5)
	for round in $$(seq $(or $(ROUNDS),5)); do CI= $(BIN)/pytest -q tests/property || exit 1; done

demo: .venv/.ready ## sync a shop through the three services and prove that both sides agree (DATA=path.csv.gz)
	@$(BIN)/sandbox demo $(if $(DATA),--data "$(DATA)") $(DEMO_ARGS)

chaos: .venv/.ready ## kill, freeze and confuse everything by seed, and check every invariant (SEEDS=1-5 SECONDS=60)
	$(BIN)/sandbox chaos --seeds $(or $(SEEDS),1-5) --seconds $(or $(SECONDS),60) $(CHAOS_ARGS)

soak: .venv/.ready ## a first load, live traffic with bursts, a full resync; memory, freshness, agreement (SOAK_ARGS="--contacts 1000000 …")
	$(BIN)/python -m bench.soak $(SOAK_ARGS)

bench: .venv/.ready ## every benchmark, small, one after the other, about twenty minutes; writes bench/RESULTS.md (OUT=path)
	$(BIN)/python -m bench --records 40000 --rounds 1 $(TO)
	$(BIN)/python -m bench.extractor --customers 8000 --orders 16000 --products 2000 $(TO)
	$(BIN)/python -m bench.loader --contacts 30000 --orders 10000 $(TO)
	$(BIN)/python -m bench.reconcile --contacts 100000 $(TO)
	$(BIN)/python -m bench.start --records 5000 $(TO)
	$(BIN)/python -m bench.arrival --idle 60 $(TO)
	$(BIN)/python -m bench.growth --sizes 3000,10000,30000 $(TO)
	$(BIN)/python -m bench.soak $(TO)
bench: TO = $(if $(OUT),--out "$(OUT)")

bench-transformer: .venv/.ready ## measure the transformer beside the bare loop and other engines; writes bench/RESULTS.md (BENCH_ARGS)
	$(BIN)/python -m bench $(BENCH_ARGS)

bench-extractor: .venv/.ready ## measure a first load beside the raw transfer, and webhooks; writes bench/RESULTS.md (BENCH_ARGS)
	$(BIN)/python -m bench.extractor $(BENCH_ARGS)

docs: .venv/.ready ## write the pages that are made from the code
	$(BIN)/python tools/mapping_page.py

bench-loader: .venv/.ready ## measure the loader by the sandbox's ledger; writes bench/RESULTS.md (BENCH_ARGS)
	$(BIN)/python -m bench.loader $(BENCH_ARGS)

bench-start: .venv/.ready ## measure how soon each service is ready; writes bench/RESULTS.md (BENCH_ARGS)
	$(BIN)/python -m bench.start $(BENCH_ARGS)

bench-arrival: .venv/.ready ## measure a new order's way from the shop to Dotdigital, idle and beside a backfill; writes bench/RESULTS.md (BENCH_ARGS)
	$(BIN)/python -m bench.arrival $(BENCH_ARGS)

bench-growth: .venv/.ready ## measure what a thousand records cost in shops of several sizes; writes bench/RESULTS.md (BENCH_ARGS)
	$(BIN)/python -m bench.growth $(BENCH_ARGS)

bench-reconcile: .venv/.ready ## measure a reconcile beside the bare read-back; writes bench/RESULTS.md (BENCH_ARGS)
	$(BIN)/python -m bench.reconcile $(BENCH_ARGS)

alone: .venv/.ready ## install each service alone, with only its own lock, and import it
	$(BIN)/python tools/alone.py

profile-schema: .venv/.ready ## write the JSON Schema of tenant profiles anew
	$(BIN)/estarsync config schema > schemas/profile/new && mv schemas/profile/new schemas/profile/tenant-profile.schema.json

lock: .venv/.ready ## write requirements/*.txt anew: names, versions, hashes
	$(BIN)/python tools/lock.py

clean: ## remove what the targets made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo-logs demo-report.json chaos-logs chaos-report.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

include deploy/deploy.mk
