.DEFAULT_GOAL := help
.PHONY: help setup browser bi celery demo logins tick test test-fast test-slow spark test-spark up down status dsn psql backup restore docs site pictures lint lint-python lint-sql lint-text types bench bench-year faults

STAMP := .venv/.installed-$(shell cat requirements.lock pyproject.toml plugins/sampan/__init__.py infra/local/setup.sh | sha256sum | cut -c 1-16)
RUN := .venv/bin/python -m
SQL_FILES := $(shell find dbt_project/models dbt_project/macros infra/postgres -name "*.sql" -not -path "*/materializations/*" 2>/dev/null)
LOCAL := $(RUN) infra.local
TESTS ?=
# Where it is set, as in many containers, each of hundreds of short programs compiles the library again.
export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(RUN) pytest -n auto --dist loadgroup --no-loadscope-reorder
SEED := $(or $(SEED),$(shell date +%s))
DRAWN := --hypothesis-profile long --hypothesis-seed=$(SEED)

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP):
	@infra/local/setup.sh $@

setup: $(STAMP) ## install everything into .venv, from the lock
	@echo "everything is installed"

browser: ## install Chromium and Chinese fonts from the system's packages, for the tests that look at pages
	@infra/local/browser.sh

demo: $(STAMP) ## start the stack, deliver 29 synthetic months, refresh, and show what came out
	@$(LOCAL) demo

logins: $(STAMP) ## print where each person of the demo looks, with login and password
	@$(LOCAL) logins

tick: $(STAMP) ## let the next business day of the demo begin and wait for its release; DAYS=20 for twenty of them
	@$(LOCAL) tick --days $(or $(DAYS),1)

test: $(STAMP) ## run the tests; some only with TESTS="tests/unit -k contract"
	@$(PYTEST) -m "not slow" $(TESTS)

test-fast: $(STAMP) ## run the tests that need no server: under 3 minutes
	@$(PYTEST) -m "not slow" tests/unit

BI_STAMP := .venv-bi/.installed-$(shell cat infra/bi/requirements.lock infra/bi/setup.sh | sha256sum | cut -c 1-16)
$(BI_STAMP):
	@infra/bi/setup.sh $@

bi: $(STAMP) $(BI_STAMP) ## start Superset with the dashboards; PERSON=wong READS=bank_b014 for someone more
	@$(LOCAL) bi $(if $(PERSON),--person $(PERSON) --reads $(READS))

CELERY_STAMP := .venv/.celery-$(shell sha256sum infra/celery/requirements.lock | cut -c 1-16)
$(CELERY_STAMP): $(STAMP)
	@infra/local/setup.sh $@ infra/celery/requirements.lock

celery: $(CELERY_STAMP) ## start the local stack with Celery workers for Airflow's tasks; SAMPAN_AIRFLOW_EXECUTOR=LocalExecutor make up goes back
	@SAMPAN_AIRFLOW_EXECUTOR=CeleryExecutor $(LOCAL) up

SPARK_STAMP := .venv-spark/.installed-$(shell cat infra/spark/requirements.lock infra/spark/setup.sh | sha256sum | cut -c 1-16)
$(SPARK_STAMP):
	@infra/spark/setup.sh $@

spark: $(STAMP) $(SPARK_STAMP) ## install Spark into .venv-spark, for SAMPAN_BUILD_ENGINE=spark
	@echo "Spark is installed"

test-spark: $(STAMP) $(SPARK_STAMP) ## build the tests' world on Spark, too, and compare the marts
	@$(RUN) pytest -n 0 -m spark --timeout 7200 $(TESTS)

up: $(STAMP) ## start the local stack, or heal it
	@$(LOCAL) up

down: $(STAMP) ## stop the local stack; its data stays in .sampan/
	@$(LOCAL) down

status: $(STAMP) ## health of every program of the local stack
	@$(LOCAL) status

backup: $(STAMP) ## copy the running PostgreSQL into the folder SAMPAN_BACKUPS; DAYS=35 says how far back one can go
	@$(LOCAL) backup $(if $(DAYS),--days $(DAYS))

restore: $(STAMP) ## bring PostgreSQL back to a moment, after make down; AT="2026-07-06 12:00", in Hong Kong time
	@$(LOCAL) restore --at "$(AT)"

dsn: $(STAMP) ## print the connection string of bi_reader, for BI tools; ROLE=builder of the role that reads ops too
	@$(LOCAL) dsn $(ROLE)

psql: $(STAMP) ## open the warehouse as bi_reader; SQL="select ..." for one query, ROLE=builder to read ops too
	@$(LOCAL) psql $(ROLE) --sql "$$SQL"

lint: lint-sql lint-python lint-text ## check Python, layers, SQL, YAML, words and contracts

lint-python: $(STAMP)
	@$(RUN) ruff check --quiet .
	@$(RUN) ruff format --check --quiet .
	@PYTHONPATH=. .venv/bin/lint-imports --no-logo
	@.venv/bin/sampan contracts check

# Only what changed since it last passed, unless the rules changed: a file takes a third of a second.
lint-sql: .venv/.sql-passed
.venv/.sql-passed: $(STAMP) dbt_project/.sqlfluff infra/postgres/.sqlfluff requirements.lock $(SQL_FILES)
	@.venv/bin/python .ci/lint_sql.py lint $(if $(filter-out %.sql,$?),$(SQL_FILES),$?)
	@touch $@

lint-text: $(STAMP)
	@.venv/bin/yamllint --strict .
	@.venv/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec infra/compose/compose.yaml
	@.venv/bin/codespell
	@.venv/bin/python .ci/plain_words.py

docs: $(STAMP) ## write dbt's page on models, columns and lineage: one file, no server needed
	@.venv/bin/sampan dbt docs generate --static --quiet
	@echo "$(or $(SAMPAN_STATE),.sampan)/dbt_by_hand/static_index.html"

SITE_STAMP := .venv-site/.installed-$(shell sha256sum infra/site/requirements.lock | cut -c 1-16)
$(SITE_STAMP): $(STAMP)
	@.venv/bin/python -m venv --clear .venv-site
	@.venv-site/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r infra/site/requirements.lock
	@touch $@

site: $(SITE_STAMP) ## build the documents as a site with search, with a page per mart and feed
	@$(RUN) infra.site

LOOKED_AT := tests/integration/desk/test_in_browser.py tests/integration/monitoring/test_in_browser.py \
	tests/integration/report/test_in_browser.py tests/integration/report/test_superset.py \
	tests/e2e/test_demo.py::test_demo_releases_what_the_partners_delivered
pictures: $(STAMP) ## take the documents' pictures again with the browser tests, into docs/pictures: half an hour
	@$(PYTEST) $(or $(TESTS),$(LOOKED_AT))
	@$(RUN) tests.pictures

types: $(STAMP) ## check the types of the library and the DAGs, strictly
	@.venv/bin/mypy

bench: $(STAMP) ## measure the gated load against plain COPY and dlt, into docs/benchmarks.md
	@$(RUN) tests.bench.gated_load --write docs/benchmarks.md
	@$(RUN) tests.bench.every_format --write docs/benchmarks.md
	@$(RUN) tests.bench.small_deliveries --write docs/benchmarks.md

bench-year: $(STAMP) ## measure a year of Hong Kong's SMEs, landing to release, into docs/benchmarks.md; SMES=36000 for a tenth of it
	@$(RUN) tests.bench.year $(if $(SMES),--smes $(SMES)) --write docs/benchmarks.md

test-slow: $(STAMP) $(CELERY_STAMP) ## run the tests that take long, hours in all: whole worlds, many examples, demos; SEED=123 repeats a run
	@echo "repeat this run with: make test-slow SEED=$(SEED)"
	@$(PYTEST) -m "slow or property" $(DRAWN) --ignore tests/faults $(TESTS)

faults: $(STAMP) ## kill and break everything on purpose, for an hour; SEED=123 repeats a run
	@echo "repeat this run with: make faults SEED=$(SEED)"
	@$(PYTEST) -m slow $(DRAWN) $(or $(TESTS),tests/faults)
