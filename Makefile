# `make` lists what there is. Needs python3 (3.11 to 3.13), python3-venv and make; everything else comes into .venv.

PYTHON ?= python3
BIN := .venv/bin
# What make starts ends with make, even if make is killed.
EXEC := @exec setpriv --pdeathsig TERM --

.PHONY: help run test docs reference kube-apiserver helm screenshots pictures faults bench lint format lock web web-agents web-operators clean
.DEFAULT_GOAL := help

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: export DD_CLUSTER_CHECKS_WARMUP_DURATION ?= 3
run: .venv/requirements ## start everything in the foreground, with three simulated node agents; Ctrl-C stops it
	$(EXEC) $(BIN)/python manage.py start

test: .venv/requirements-dev .venv/browser ## run all tests on all cores, against a PostgreSQL of their own or DATABASE_URL (ARGS="checks -k plan" for less)
	$(EXEC) $(BIN)/python -m pytest $(ARGS)

docs: .venv/requirements-dev ## build the documentation as a site, in operators/static/docs
	@$(BIN)/python -m sphinx -q -W --keep-going -d .venv/doctrees docs operators/static/docs
	@echo "Open operators/static/docs/index.html in a browser"

reference: .venv/requirements ## write the pages of docs/reference that the program knows: options and commands
	@DJANGO_SETTINGS_MODULE=clusteragent.settings $(BIN)/python -m docs.generate

kube-apiserver: ## build what tests of Kubernetes need (kube-apiserver, etcd, kubectl) with Go, some ten minutes, once
	$(EXEC) $(PYTHON) -m tests.kubernetes.programs

helm: ## build the helm that tests of the chart need with Go, some three minutes, once
	$(EXEC) $(PYTHON) -m tests.helm.programs

screenshots: .venv/requirements-dev .venv/browser ## make the pictures of docs/images from a live cluster
	$(EXEC) $(BIN)/python -m pytest tests/browser/screenshots.py

pictures: .venv/requirements-dev .venv/browser ## make the pictures that tests compare the main pages with, after a change of their looks
	@PICTURES=renew $(BIN)/python -m pytest tests/browser/test_pictures.py

faults: .venv/requirements-dev ## break everything that may break, one after the other; takes the better part of an hour
	@ls /usr/lib/*/faketime/libfaketime.so.1 > /dev/null || { echo "libfaketime is missing: apt-get install faketime"; exit 1; }
	@PATH=$$PATH:/usr/sbin; command -v pgbouncer > /dev/null || { echo "pgbouncer is missing: apt-get install pgbouncer"; exit 1; }
	$(EXEC) $(BIN)/python -m pytest -n 0 -m "" --durations=0 --timeout=3600 --hypothesis-profile=faults tests/faults tests/image tests/test_statemachine.py tests/kubernetes $(ARGS)

bench: .venv/requirements-dev ## measure everything, print a table, write bench/results.json; takes half an hour (ARGS="heartbeats" for less)
	$(EXEC) $(BIN)/python -m bench $(ARGS)

lint: .venv/requirements-dev ## check format, style, types, settings and migrations
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/python manage.py check --deploy --fail-level WARNING
	@$(BIN)/python -W "ignore:Got an error checking:RuntimeWarning" manage.py makemigrations --check --dry-run

format: .venv/requirements-dev ## format the code
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

lock: ## choose the newest versions that requirements*.in allow, and write them with their hashes (ARGS="--upgrade-package NAME")
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement requirements-lock.txt
	$(call compile,requirements-lock.in,requirements-lock.txt)
	$(call compile,requirements.in,requirements.txt)
	$(call compile,requirements.in requirements-embedded.in --constraints requirements.txt,requirements-embedded.txt)
	$(call compile,requirements.in requirements-traces.in --constraints requirements.txt,requirements-traces.txt)
	$(call compile,requirements-docs.in --constraints requirements.txt,requirements-docs.txt)
	$(call compile,requirements-dev.in --constraints requirements-docs.txt,requirements-dev.txt)
	$(call compile,deploy/image/tools.in,deploy/image/tools.txt)

web: .venv/requirements ## serve node agents and operators alone: the database and the secrets are there
	$(EXEC) $(MAKE) --no-print-directory -j2 web-agents web-operators

web-agents web-operators: web-%:
	$(EXEC) $(BIN)/python manage.py serve $*

clean: ## remove what can be made again; var/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/requirements: requirements-embedded.txt
	$(install)

.venv/requirements-dev: requirements-dev.txt
	$(install)
	@touch .venv/requirements

# The tests look for a browser where it may be; that one was looked for, and got if possible, is remembered here.
.venv/browser: .venv/requirements-dev
	@$(BIN)/python -m tests.browser.chromium
	@touch $@

define install
@echo "Installing $< into .venv"
@$(PYTHON) -m venv .venv
@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement $<
@touch $@
endef

# For all platforms and Pythons that the program runs on, whichever this is. What is pinned already stays so, if it may.
define compile
@$(BIN)/uv pip compile --quiet --python $(BIN)/python --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" $(ARGS) $(1) --output-file $(2)
endef
