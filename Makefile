.DEFAULT_GOAL := help
.PHONY: help setup demo test up down status dsn psql lint bench faults

STAMP := .venv/.installed-$(shell cat requirements.lock pyproject.toml infra/local/setup.sh | sha256sum | cut -c 1-16)
RUN := .venv/bin/python -m
LOCAL := $(RUN) infra.local
TESTS ?=

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP):
	@infra/local/setup.sh $@

setup: $(STAMP) ## install everything into .venv, from the lock
	@echo "everything is installed"

demo: $(STAMP) ## start the stack, deliver 30 synthetic business days, refresh, and show what came out
	@$(LOCAL) demo

test: $(STAMP) ## run the tests; some only with TESTS="tests/unit -k contract"
	@$(RUN) pytest -n auto --dist loadgroup -m "not slow" $(TESTS)

up: $(STAMP) ## start the local stack, or heal it
	@$(LOCAL) up

down: $(STAMP) ## stop the local stack; its data stays in .sampan/
	@$(LOCAL) down

status: $(STAMP) ## health of every program of the local stack
	@$(LOCAL) status

dsn: $(STAMP) ## print the connection string of bi_reader, for BI tools; ROLE=builder of the role that reads ops too
	@$(LOCAL) dsn $(ROLE)

psql: $(STAMP) ## open the warehouse as bi_reader; SQL="select ..." for one query, ROLE=builder to read ops too
	@$(LOCAL) psql $(ROLE) --sql "$$SQL"

lint: $(STAMP) ## check Python, SQL and contracts
	@$(RUN) ruff check .
	@$(RUN) ruff format --check --quiet .
	@.venv/bin/sampan contracts check
	@.venv/bin/sqlfluff lint dbt_project/models

bench: $(STAMP) ## measure the gated load against plain COPY and dlt, into docs/benchmarks.md
	@$(RUN) tests.bench.gated_load --write docs/benchmarks.md

faults: $(STAMP) ## kill and break everything on purpose: the long suite
	@$(RUN) pytest -m slow $(TESTS)
