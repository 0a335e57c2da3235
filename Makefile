# Every target makes its own environment: `make run` and `make test` are all it takes.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
AMQTT  := .venv-amqtt
ACOAP  := .venv-aiocoap
FAST   := .venv-compiled
NODE   := tests/interop/node_app
# Whose interpreters run the peers that cannot live beside us.
PEERS  := GATEWAY_TEST_AMQTT_PYTHON=$(CURDIR)/$(AMQTT)/bin/python GATEWAY_TEST_AIOCOAP_PYTHON=$(CURDIR)/$(ACOAP)/bin/python

.PHONY: run chaos test test-compiled nightly lint types format bench compiled docs clean help

help:
	@echo "make run      install, then run the gateway in development mode"
	@echo "make test     all tests (under ten minutes)"
	@echo "make chaos    crashes on failing disks, ROUNDS=3000 of them"
	@echo "make nightly  the long ones too; make test-compiled: processes with compiled hot modules"
	@echo "make lint types docs bench compiled clean"

run: $(VENV)/.installed
	$(BIN)/gateway serve --dev

# python3 -m venv lacks ensurepip on a bare Debian: then virtualenv, from PyPI, makes the same.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(PYTHON) -m pip install --quiet --user --break-system-packages virtualenv && $(PYTHON) -m virtualenv --quiet $(VENV); } || { rm -rf $(VENV); echo "cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 2; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[openmessaging]'
	@touch $@

$(VENV)/.dev: pyproject.toml plugins/line/pyproject.toml plugins/callback/pyproject.toml $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation hatchling || true
	$(BIN)/pip install --quiet --disable-pip-version-check -e plugins/line -e plugins/callback
	@touch $@

# amqtt pins an old websockets: an environment of its own. Without it one test is skipped by name.
$(AMQTT)/.installed: | $(VENV)/bin/python
	-$(PYTHON) -m venv $(AMQTT) && $(AMQTT)/bin/pip install --quiet --disable-pip-version-check 'amqtt>=0.11' && touch $@

# aiocoap's WebSocket wants an old websockets, too. Without it the tests that need it are skipped by name.
$(ACOAP)/.installed: | $(VENV)/bin/python
	-$(PYTHON) -m venv $(ACOAP) && $(ACOAP)/bin/pip install --quiet --disable-pip-version-check 'aiocoap[oscore,ws]==0.4.17' 'uvloop>=0.21' && touch $@

# The peers that run on Node. Without npm their tests are skipped by name.
$(NODE)/node_modules/.installed: $(NODE)/package.json
	-@if command -v npm > /dev/null; then cd $(NODE) && npm install --silent --no-audit --no-fund && touch node_modules/.installed; fi

test: $(VENV)/.dev $(AMQTT)/.installed $(ACOAP)/.installed $(NODE)/node_modules/.installed
	$(PEERS) $(BIN)/python -m pytest -n 3 --dist loadfile -m "not slow" $(ARGS)

nightly: $(VENV)/.dev $(AMQTT)/.installed $(ACOAP)/.installed $(NODE)/node_modules/.installed
	$(PEERS) $(BIN)/python -m pytest -n 2 --dist loadfile --timeout 1800 $(ARGS)

# The same processes, their hot modules compiled.
test-compiled: $(VENV)/.dev $(AMQTT)/.installed $(ACOAP)/.installed $(NODE)/node_modules/.installed $(FAST)/.installed
	GATEWAY_TEST_PYTHON=$(CURDIR)/$(FAST)/bin/python $(PEERS) \
	    $(BIN)/python -m pytest -n 2 --dist loadfile tests/interop tests/faults tests/examples $(ARGS)

# Thousands of rounds of crashes: make chaos ROUNDS=10000; or one again: make chaos SEED=...
ROUNDS ?= 3000
chaos: $(VENV)/.dev
	GATEWAY_TEST_ROUNDS=$(ROUNDS) GATEWAY_TEST_SEED=$(SEED) $(BIN)/python -m pytest -n 2 --timeout 7200 tests/chaos/test_rounds.py $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev
	$(BIN)/mypy --strict gateway plugins/line/gateway_line.py plugins/callback/gateway_callback.py benchmarks

docs: $(VENV)/.dev
	$(BIN)/python -m pytest tests/test_docs.py

# The hot modules through mypyc, in an environment of their own: needs a C compiler.
compiled: $(FAST)/.installed

$(FAST)/.installed: pyproject.toml setup.py $(shell find gateway -name '*.py')
	test -d $(FAST) || $(PYTHON) -m venv $(FAST)
	$(FAST)/bin/pip install --quiet --disable-pip-version-check 'mypy[mypyc]' 'setuptools>=77'
	$(FAST)/bin/pip install --quiet --disable-pip-version-check '.[oscore,openmessaging]'
	GATEWAY_COMPILE=1 $(FAST)/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps --no-build-isolation .
	@touch $@

bench: $(VENV)/.dev $(AMQTT)/.installed $(ACOAP)/.installed
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) $(AMQTT) $(ACOAP) $(FAST) $(NODE)/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
