# make train   sets everything up, trains, evaluates, exports, searches, and says where each thing is
# make test    sets everything up, checks style and mistakes, runs the tests, and tells which share of the lines they reach
# make test-all  likewise, with types and the slow tests: real trainings, every format, kills, browsers, the docs' commands
# make fuzz    random photos, tables, trees and archives, many more than test-all makes
# make bench   runs bench/, in 25 minutes, and writes docs/performance.md; make bench ARGS="losses" some of it, and no page
# make docs    docs/options.md, written anew
#
# make train ARGS="seed=1 variant=triplet" passes overrides to train.py; make test ARGS="-k index" options to pytest.

ACCELERATOR := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
READY := .venv/.ready-$(ACCELERATOR)
READY_DEV := .venv/.ready-$(ACCELERATOR)-dev
# A pytest process for each core, each of which computes on its own core alone (tests/conftest.py).
EVERY_CORE := --numprocesses auto --dist worksteal
# Lines that the tests reach, and the least share of them; where some tests are chosen, it is told and no more.
REACHED := .venv/.reached.json
AT_LEAST := $(if $(ARGS),,--fail-under 90)
PYTHON_FILES := src tests bench scripts conf train.py evaluate.py export.py

.PHONY: train test test-all fuzz bench style lint format docs clean

train: $(READY)
	@.venv/bin/python scripts/quickstart.py $(ARGS)

test: style
	@.venv/bin/python -m slipcover --source src/lapel --json --out $(REACHED) -m pytest $(EVERY_CORE) $(ARGS)
	@.venv/bin/python -m slipcover --merge $(REACHED) --out /dev/null --skip-covered --missing-width 60 $(AT_LEAST)

test-all: lint
	@.venv/bin/python -m pytest -m "slow or not slow" $(EVERY_CORE) $(ARGS)

fuzz: $(READY_DEV)
	@LAPEL_FUZZ=full .venv/bin/python -m pytest -m slow tests/test_fuzz.py $(EVERY_CORE) $(ARGS)

bench: $(READY)
	@.venv/bin/python scripts/performance_page.py $(ARGS)

style: $(READY_DEV)
	@.venv/bin/ruff check $(PYTHON_FILES)
	@.venv/bin/ruff format --check $(PYTHON_FILES)

lint: style
	@.venv/bin/pyright

format: $(READY_DEV)
	@.venv/bin/ruff check --fix $(PYTHON_FILES)
	@.venv/bin/ruff format $(PYTHON_FILES)

docs: $(READY_DEV)
	@.venv/bin/python scripts/options_page.py

$(READY): pyproject.toml constraints.txt scripts/setup.sh
	@rm -f .venv/.ready-*
	@PYTHON="$(PYTHON)" scripts/setup.sh $(ACCELERATOR)
	@touch $@

$(READY_DEV): pyproject.toml constraints.txt scripts/setup.sh
	@rm -f .venv/.ready-*
	@PYTHON="$(PYTHON)" scripts/setup.sh $(ACCELERATOR),dev
	@touch .venv/.ready-$(ACCELERATOR) $@

clean:
	rm -rf .venv .venv-oml build dist .pytest_cache .ruff_cache .hypothesis
