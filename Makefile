# make train   sets everything up, trains, evaluates, exports, searches, and says where each thing is
# make test    sets everything up, checks the code, runs the tests
# make test-all  likewise, with the slow tests: every format, kills at more moments
#
# make train ARGS="seed=1 variant=triplet" passes overrides to train.py.

ACCELERATOR := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
READY := .venv/.ready-$(ACCELERATOR)
READY_DEV := .venv/.ready-$(ACCELERATOR)-dev
PYTHON_FILES := src tests bench scripts conf train.py evaluate.py export.py

.PHONY: train test test-all lint format clean

train: $(READY)
	@.venv/bin/python scripts/quickstart.py $(ARGS)

test: lint
	@.venv/bin/python -m pytest $(ARGS)

test-all: lint
	@.venv/bin/python -m pytest -m "slow or not slow" $(ARGS)

lint: $(READY_DEV)
	@.venv/bin/ruff check $(PYTHON_FILES)
	@.venv/bin/ruff format --check $(PYTHON_FILES)
	@.venv/bin/pyright

format: $(READY_DEV)
	@.venv/bin/ruff check --fix $(PYTHON_FILES)
	@.venv/bin/ruff format $(PYTHON_FILES)

$(READY): pyproject.toml constraints.txt scripts/setup.sh
	@rm -f .venv/.ready-*
	@PYTHON="$(PYTHON)" scripts/setup.sh $(ACCELERATOR)
	@touch $@

$(READY_DEV): pyproject.toml constraints.txt scripts/setup.sh
	@rm -f .venv/.ready-*
	@PYTHON="$(PYTHON)" scripts/setup.sh $(ACCELERATOR),dev
	@touch .venv/.ready-$(ACCELERATOR) $@

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
