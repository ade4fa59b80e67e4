.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PORT ?= 8000
SECONDS ?= 60
DATA ?= training/data
URL ?= http://127.0.0.1:8000

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(VENV)/.serve: requirements.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" tools/setup.sh $(VENV) requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" tools/setup.sh $(VENV) requirements-dev.lock
	@touch $(VENV)/.serve $@

$(VENV)/.train: requirements-train.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" tools/setup.sh $(VENV)-train requirements-train.lock torch==2.13.0
	@mkdir -p $(VENV) && touch $@

$(VENV)/.fuzz: requirements-fuzz.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" tools/setup.sh $(VENV)-fuzz requirements-fuzz.lock
	@mkdir -p $(VENV) && touch $@

serve: $(VENV)/.serve ## set up and serve on http://127.0.0.1:8000
	@$(BIN)/firstline serve --port $(PORT)

test: $(VENV)/.dev ## set up and run every test that needs no service
	@$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not service and not slow"

test-all: $(VENV)/.dev ## all tests, those that need PostgreSQL or Redis included
	@$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow"

coverage: $(VENV)/.dev ## run the tests and report what they reach
	@$(BIN)/python -m coverage erase
	@COVERAGE_PROCESS_START=pyproject.toml $(BIN)/python -m coverage run -m pytest -q -m "not service and not slow"
	@$(BIN)/python -m coverage combine -q && $(BIN)/python -m coverage report

lint: $(VENV)/.dev ## ruff and the layer contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

audit: $(VENV)/.dev ## bandit over the source, and a search for secrets in what git has
	@$(BIN)/python tools/bandit_findings.py && $(BIN)/python tools/secrets_scan.py

sbom: $(VENV)/.dev ## write dist/firstline.cdx.json, what firstline is made of
	@$(BIN)/python tools/sbom.py

types: $(VENV)/.dev ## mypy, strict
	@$(BIN)/mypy

fmt: $(VENV)/.dev ## format and fix what can be fixed
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## CPU per request and latency, as ratios of one run
	@$(BIN)/python -m bench

bench-providers: $(VENV)/.dev ## what providers cost, and what callers see when one fails
	@$(BIN)/python -m bench provider-cost provider-faults

chaos: $(VENV)/.dev ## kill everything under load for five minutes and count what was lost (ARGS=--quick: one)
	@$(BIN)/python -m chaos $(ARGS)

load: $(VENV)/.dev ## a realistic mix of requests for two minutes, and a report (ARGS="--url … --key …")
	@$(BIN)/python -m load $(ARGS)

soak: $(VENV)/.dev ## the same for half an hour; memory, latency and descriptors must stay flat
	@$(BIN)/python -m load --soak --minutes 30 --rate 30 $(ARGS)

fuzz: $(VENV)/.fuzz ## fuzz every reader of foreign bytes, SECONDS=60 each (TARGET=name: that one alone)
	@$(VENV)-fuzz/bin/python -m fuzz run $(TARGET) --seconds $(SECONDS)

smoke: $(VENV)/.serve ## make the published calls against URL and print what differs
	@$(BIN)/python tools/smoke.py $(URL)

train: $(VENV)/.train ## rebuild the local model from DATA=DIR
	@$(VENV)-train/bin/python training/train.py --data $(DATA)

minilm: $(VENV)/.train ## build minilm.safetensors, more accurate on English and slower, from DATA=DIR
	@$(VENV)-train/bin/python training/export_minilm.py --data $(DATA)

compare: $(VENV)/.train ## leave public sources out, beside TF-IDF and logistic regression, from DATA=DIR
	@$(VENV)-train/bin/python training/compare.py --data $(DATA)

frontier: $(VENV)/.train ## what asking a language model would buy on left-out sources, from DATA=DIR
	@$(VENV)-train/bin/python training/frontier.py --data $(DATA)

eval: $(VENV)/.serve ## accuracy of model and rules on the held-out text
	@$(BIN)/python evaluation/evaluate.py

docs: $(VENV)/.dev ## build the documentation site into var/site; open var/site/index.html
	@$(BIN)/python tools/reference_docs.py --write && $(BIN)/mkdocs build --strict --quiet

dashboards: $(VENV)/.dev ## write Grafana's dashboards; DOCS_URL=URL for links to the documentation
	@$(BIN)/python -m dashboards

image: ## build the container image with buildah and say how large it is (needs root; EXTRAS=parquet,telemetry)
	@tools/image.sh

nightly: $(VENV)/.dev ## what takes longer than CI may: slow tests (the image's too), benchmarks, chaos, soak, fuzzing
	@$(BIN)/python -m pytest -q -m "slow" && $(MAKE) bench bench-providers chaos soak fuzz

lock: ## write the lock files anew (needs uv)
	@tools/lock.sh

.PHONY: help serve test test-all coverage lint audit sbom types fmt bench bench-providers chaos load soak fuzz smoke train minilm compare frontier eval docs dashboards image nightly lock
