# make demo   set up, then turn points, scribbles and boxes on real photos into masks, scores and prices
# make test   set up, then run the tests
# make bench  run the benchmarks (DATA=path of a VOC year folder for those that need one)
# make docs   write man/ and bin/ again from the tools themselves

PYTHON ?= python3
EXTRAS ?= fast,plot,nets,weights,crf,forest,proposals,demo,test
VENV := .venv
COMMA := ,
READY := $(VENV)/ready-$(subst $(COMMA),-,$(EXTRAS))
BIN := $(VENV)/bin
DATA ?= ../shared/data/VOC2012

.SHELLFLAGS := -euo pipefail -c
SHELL := bash

.PHONY: demo test bench docs lint clean
demo: $(READY)
	@$(MAKE) --no-print-directory -C examples/quickstart BIN=$(abspath $(BIN))

test: $(READY) lint
	$(BIN)/python -m pytest -n auto

lint: $(READY)
	$(BIN)/python -m flake8 wsseg tests examples

bench: $(READY)
	$(BIN)/python tests/benchmarks/help_time.py
	$(BIN)/python tests/benchmarks/cat_memory.py $(DATA)/SegmentationClass
	$(BIN)/python tests/benchmarks/eval_folders.py $(DATA)/SegmentationClass
	$(BIN)/python tests/benchmarks/densecrf.py $(DATA)/JPEGImages
	$(BIN)/python tests/benchmarks/potts.py $(DATA)/JPEGImages

docs: $(READY)
	$(BIN)/python -m wsseg.cli._man

$(READY): setup.cfg setup.py pyproject.toml $(wildcard wsseg/native/*.cpp wsseg/native/*.h)
	@echo "setting up $(VENV) (once; PyTorch alone is several GB)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$(EXTRAS)]"
	touch $@

clean:
	rm -rf $(VENV) build examples/*/build *.egg-info
