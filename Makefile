# Every target is one line that a reader may type instead. PYTHON chooses the interpreter.
PYTHON ?= python3
DATA ?= ../shared/data
WORK ?= runs
INTENTS = $(DATA)/units/fluent_speech_commands/hubert100/train.parquet

.DEFAULT_GOAL := help
.PHONY: help lint types test slow thorough parity bench notebooks pictures backbone

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

lint:  ## ruff over all files
	$(PYTHON) -m ruff check .

types:  ## mypy over the package
	$(PYTHON) -m mypy

test:  ## the default tests: a few minutes, offline
	$(PYTHON) -m pytest

slow:  ## the long tests: training, two processes, wheels, README, notebooks
	$(PYTHON) -m pytest -m slow

thorough:  ## the long tests with as many kills and damaged files as were once asked for
	SPEECHPROMPT_TEST_ROUNDS=all $(PYTHON) -m pytest -m slow

parity:  ## converted models against fairseq itself, in an environment of its own (WORK/fairseq)
	test -d $(WORK)/fairseq || $(PYTHON) -m venv $(WORK)/fairseq
	$(WORK)/fairseq/bin/pip install -q torch==2.13.0 fairseq-fixed -e ".[test,quickstart]"
	$(WORK)/fairseq/bin/pip uninstall -q -y torchaudio  # brought by fairseq, and broken beside a CPU build of torch
	$(WORK)/fairseq/bin/python -m pytest -m "slow or not slow" tests/oracle/convert

bench:  ## every benchmark, one after the other, on the speech in DATA; working files go to WORK
	$(PYTHON) benchmarks/import_time.py
	$(PYTHON) benchmarks/decoding.py --data $(INTENTS) --json benchmarks/results/decoding.json
	$(PYTHON) benchmarks/training_step.py --data $(INTENTS) --json benchmarks/results/training_step.json
	$(PYTHON) benchmarks/extraction.py --data-root $(DATA) --json benchmarks/results/extraction.json
	$(PYTHON) benchmarks/backbone_units.py --data $(DATA) --teacher --json benchmarks/results/backbone_units_fsdd.json
	$(PYTHON) benchmarks/backbone_units.py --data $(DATA) --set lt_speech_commands --teacher --json benchmarks/results/backbone_units_lt.json
	$(PYTHON) benchmarks/embedded_default.py --data-root $(DATA) --work $(WORK)
	$(PYTHON) benchmarks/keyword_and_intent.py --data-root $(DATA) --work $(WORK)
	$(PYTHON) benchmarks/mixed_batch.py

notebooks:  ## run the notebooks top to bottom
	$(PYTHON) -m pytest -m slow tests/slow/test_notebooks.py

pictures:  ## draw docs/pictures again
	$(PYTHON) docs/pictures/draw.py

backbone:  ## make the embedded backbone anew (hours): DATA is the speech, WORK the working folder
	@set -e; for stage in teach distill quantize units pretrain infill; do \
		$(PYTHON) -m speechprompt_hf.backbones.recipe.make_backbone $$stage --data $(DATA) --work $(WORK); done
