# Two commands do everything: `make demo` sets up and runs the pipeline, `make test` sets up and tests it.
# `make help` lists the rest.

VENV := .venv
PYTHON := $(VENV)/bin/python
BASE_PYTHON ?= $(shell command -v python3.11 || command -v python3)
STAMP := $(VENV)/.installed
SOURCES := trading_pipeline assets resources sensors

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-slow lock clean kill-everything bench-cycle bench-live bench-desk-start bench-close bench-wide day-soak

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: $(STAMP) ## create .venv and install exactly what requirements.lock names

# Hashes are checked by both installers. Byte code is compiled once: importing Dagster without it takes seconds.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(BASE_PYTHON)" || { echo "Python 3.11 or newer is needed: install it and try again"; exit 2; }
	@echo "Installing into $(VENV), about 1 GB, once ..."
	@if command -v uv >/dev/null; then \
	  test -x $(PYTHON) || uv venv --quiet --python "$(BASE_PYTHON)" $(VENV); \
	  uv pip sync --quiet --compile-bytecode --require-hashes --python $(PYTHON) requirements.lock && \
	  uv pip install --quiet --no-deps --no-build-isolation --python $(PYTHON) --editable . ; \
	else \
	  test -x $(PYTHON) || "$(BASE_PYTHON)" -m venv $(VENV); \
	  $(PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m ensurepip >/dev/null; \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock && \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . ; \
	fi
	@$(PYTHON) -m compileall -q $(SOURCES)
	@touch $@

demo: setup ## real history from bars to portfolio snapshots, through Dagster, in a minute or two
	@$(VENV)/bin/trading demo $(ARGS)

up: setup ## Dagster's UI, schedules and sensors on the newest home, until Ctrl-C
	@$(VENV)/bin/trading up $(ARGS)

test: setup ## types, import rules, and all tests but the slow ones
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	$(PYTHON) -m pytest --numprocesses auto --dist worksteal -m "not slow" $(ARGS)

test-slow: setup ## whole systems that are started and killed, and long plays
	$(PYTHON) -m pytest --numprocesses auto --dist worksteal -m slow $(ARGS)

kill-everything: setup ## kill -9 of everything in the middle of a cycle, ROUNDS=7 times
	KILL_ROUNDS=$(or $(ROUNDS),7) $(PYTHON) -m pytest tests/journeys/test_killing_everything.py

bench-live: setup ## trigger to the end of a run, warm launcher against Dagster's default
	@$(PYTHON) -m bench.live

bench-desk-start: setup ## until `trading desk` is ready, beside Python and its libraries alone: N=7
	@$(PYTHON) -m bench.desk_start

bench-close: setup ## bar close, and approval, to order accepted: N=30 minutes of real time
	@$(PYTHON) -m bench.close

bench-wide: setup ## one cycle for 500 symbols, and for 100 with charts
	@$(PYTHON) -m bench.wide

day-soak: setup ## a day of 390 cycles through the warm launcher
	@$(PYTHON) -m bench.soak

.PHONY: backtest-2024
backtest-2024: setup ## the founding documents' backtest from DATA=DIR, into docs/backtest_results.md: HTML=DIR for the reports
	@HTML=$(HTML) $(PYTHON) -m bench.backtest_2024 $(DATA)

.PHONY: bench-model
bench-model: setup ## what a decision of a model costs besides the model, 20 at once, and the cassette
	@$(PYTHON) -m bench.model

.PHONY: bench-backtest
bench-backtest: setup ## backtests beside the libraries people would otherwise use: PEERS=../shared/bench, ROUNDS=5
	@PEERS="$(or $(PEERS),../shared/bench)" ROUNDS=$(or $(ROUNDS),5) $(PYTHON) -m bench.backtest

.PHONY: bench-backfill
bench-backfill: setup ## a year's backfill through Dagster beside the engine alone, and again when it is done: SESSIONS=252
	@SESSIONS=$(or $(SESSIONS),252) $(PYTHON) -m bench.backfill

bench-cycle: setup ## figures of a cycle, the ledger, charts and indicators
	@$(PYTHON) -m bench.cycle

.PHONY: fuzz-replies hostile-sessions tamper approval-races crash-sweep

fuzz-replies: setup ## hostile model replies through parser, sizing and rulebook: N=1000000, SEED=1, JOBS=1
	@N=$(or $(N),1000000) $(PYTHON) -m tests.evidence.fuzz_replies

hostile-sessions: setup ## a policy that always asks for the worst, with and without a bound on the day: N=1000 sessions of each kind
	@N=$(or $(N),1000) $(PYTHON) -m tests.evidence.hostile

tamper: setup ## single mutations of a real record, each to be found by verification: N=10000
	@N=$(or $(N),10000) $(PYTHON) -m tests.evidence.tamper

approval-races: setup ## approve, reject, expire, void and stop at once on the same proposal: N=10000
	@N=$(or $(N),10000) $(PYTHON) -m tests.evidence.approval_races

crash-sweep: setup ## kill -9 at every step of an order, against three brokers: N=1000 kills, JOBS workers, KEEP=FILE to go on after an interruption, FIRST=1000 for other seeds; or SEED=17 for one round
	@N=$(or $(N),1000) $(PYTHON) -m tests.evidence.crash_sweep

.PHONY: replay-sessions
replay-sessions: setup ## random sessions derived again from their ledger, and forged ones found: N=1000, SEED=1
	@N=$(or $(N),1000) $(PYTHON) -m tests.evidence.replay_sessions

.PHONY: days calendar-check

days: setup ## seeded random trading days, all invariants after every event: N=10000, JOBS processes; or SEED=17 for one day
	@N=$(or $(N),10000) $(PYTHON) -m tests.evidence.days

calendar-check: setup ## every minute of 2015-2026 against an independent calendar, in four host time zones
	@EVERY=$(or $(EVERY),1) $(PYTHON) -m tests.evidence.calendar_minutes

.PHONY: evidence-map state-machines

evidence-map: setup ## which test proves which rule, into docs/evidence/invariants.md
	@$(PYTHON) -m tests.evidence.coverage_map

state-machines: setup ## random walks through six state machines: EXAMPLES=10000 of STEPS=50
	EXAMPLES=$(or $(EXAMPLES),10000) STEPS=$(or $(STEPS),50) $(PYTHON) -m pytest tests/state_machines --timeout=0 $(ARGS)

.PHONY: stop-drill
stop-drill: setup ## the emergency stop's times, and every fault of it: N=100 orders to cancel, ONLY=61 for some faults
	@N=$(or $(N),100) $(PYTHON) -m tests.evidence.stop_drill

.PHONY: smoke-llm
smoke-llm: setup ## one small real question to each provider with a key, after asking: ARGS="--yes --provider anthropic"
	@$(VENV)/bin/trading try-models $(ARGS)

.PHONY: budget-drill
budget-drill: setup ## fifty threads and kill -9 against one model budget: N=1000 runs, SEED=1
	@N=$(or $(N),1000) $(PYTHON) -m tests.evidence.budget_drill

.PHONY: mutation
mutation: .mutation/.installed ## mutants of risk, sizing, orders, approvals and gate, half an hour of one core: MODULES="domain/sizing.py", SEED=1, AGAIN=1 for survivors only
	@.mutation/venv/bin/python -m tests.evidence.mutation

# mutmut is not among what requirements.lock names: it has an environment of its own, which looks into .venv for everything else.
.mutation/.installed: $(STAMP) pyproject.toml
	@rm -rf .mutation/venv && $(PYTHON) -m venv .mutation/venv
	@$(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
	  "$$(.mutation/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth"
	@.mutation/venv/bin/python -m pip install --quiet --disable-pip-version-check \
	  $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["mutation"])')
	@touch $@

.PHONY: injections
injections: setup ## somebody else's words in every place that has some, against a model that obeys them and one that does not: N=1400
	@N=$(or $(N),1400) $(PYTHON) -m tests.evidence.injections

.PHONY: evidence
evidence: ## all of it, with its pages: hours
	REPORT=1 $(MAKE) tamper stop-drill fuzz-replies hostile-sessions approval-races replay-sessions calendar-check budget-drill injections
	REPORT=1 $(MAKE) crash-sweep N=10000
	REPORT=1 $(MAKE) days N=10000
	REPORT=1 $(MAKE) mutation
	$(MAKE) evidence-map

lock: ## compile requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --generate-hashes \
	  --no-strip-extras --no-emit-index-url --no-emit-find-links --no-annotate --no-header --upgrade --output-file requirements.lock

clean: ## remove .venv, .mutation and caches; homes under .trading stay
	rm -rf $(VENV) .mutation .mypy_cache .ruff_cache .pytest_cache .hypothesis
