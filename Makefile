# Every target is one line that a reader may type instead. PYTHON chooses the interpreter.
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help lint types test slow bench notebooks pictures backbone

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

bench:  ## every script in benchmarks/, one after the other
	@set -e; for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(PYTHON) $$script; done

notebooks:  ## run the notebooks top to bottom
	$(PYTHON) -m pytest -m slow tests/slow/test_notebooks.py

pictures:  ## draw docs/pictures again
	$(PYTHON) docs/pictures/draw.py

DATA ?= ../shared/data
WORK ?= runs/backbone
backbone:  ## make the embedded backbone anew (hours): DATA is the speech, WORK the working folder
	@set -e; for stage in teach distill quantize units pretrain; do \
		$(PYTHON) -m speechprompt_hf.backbones.recipe.make_backbone $$stage --data $(DATA) --work $(WORK); done
