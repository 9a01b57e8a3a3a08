# Every target works from a bare clone: the first one that needs it makes .venv and installs everything (constraints.txt).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
BIN := .venv/bin
SEED ?= 0
JOBS ?= 2
OUT := outputs
STUDY ?= $(OUT)/study
SOURCE ?= dicom
# One process a core, a file of tests each, in the order of their names: the long ones then do not come last.
PARALLEL := -n $(JOBS) --dist loadfile --no-loadscope-reorder
# Where the environment forbids bytecode files, every process would compile all tests and rewrite their asserts anew.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -q $(PARALLEL)
GRID := '+modalities=glob(*)' 'fold=range(5)'

.DEFAULT_GOAL := help
.PHONY: help install demo demo-nifti-patient demo-dicom-patient cases test test-fast test-rest test-all lint format types smoke ablation bench niivue findings clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/.installed  ## make .venv and install ricenet with what tests and demo need

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev,hdbet]'
	touch $@

demo: install  ## the whole study on phantoms: two raw patients preprocessed, 7 x 5 grid, evaluation, maps, page; then two new patients (10 minutes on two quiet cores of a Xeon)
	$(BIN)/python -m ricenet.phantom out=$(OUT)/demo-raw format=nifti patients=2 jobs=$(JOBS)
	$(BIN)/python -m ricenet.preprocess cohort=$(OUT)/demo-raw cases=$(OUT)/demo-raw-cases folds=0 jobs=$(JOBS)
	$(BIN)/python -m ricenet.phantom out=$(OUT)/demo-cases format=cases patients=92 jobs=$(JOBS)
	$(BIN)/python -m ricenet.train -m cases=$(OUT)/demo-cases experiment=demo $(GRID) hydra.launcher.n_jobs=$(JOBS)
	$(BIN)/python -m ricenet.train -m cases=$(OUT)/demo-cases experiment=demo control=shuffled_labels 'fold=range(5)' hydra.launcher.n_jobs=$(JOBS)
	$(BIN)/python -m ricenet.train -m cases=$(OUT)/demo-cases experiment=demo control=metadata_only 'fold=range(5)' hydra.launcher.n_jobs=$(JOBS)
	$(BIN)/python -m ricenet.evaluate run=$(OUT)/demo
	$(BIN)/python -m ricenet.explain run=$(OUT)/demo case=test cube_mm=21 stride_mm=21 batch_size=32 curves=true
	$(BIN)/python -m ricenet.report run=$(OUT)/demo qc=$(OUT)/demo-raw-cases
	$(BIN)/python -m ricenet.phantom out=$(OUT)/demo-hospital format=dicom patients=1 seed=5
	rm -rf $(OUT)/demo-model
	$(BIN)/python -m ricenet.predict export=$(OUT)/demo-model run=$(OUT)/demo
	@# Side by side: most of a patient's minute is spent on one core.
	$(MAKE) --no-print-directory -j $(JOBS) demo-nifti-patient demo-dicom-patient
	@echo "Open $(OUT)/demo/report.html, and of the two new patients:"
	@ls $(OUT)/demo-predictions/*/*/page.html

demo-nifti-patient: install
	$(BIN)/python -m ricenet.predict model=$(OUT)/demo-model patient=$(OUT)/demo-raw/001 out=$(OUT)/demo-predictions/nifti prescription_gy=60 cube_mm=21 stride_mm=14 threads=1

demo-dicom-patient: install
	$(BIN)/python -m ricenet.predict model=$(OUT)/demo-model patient=$(OUT)/demo-hospital/dicom out=$(OUT)/demo-predictions/dicom cube_mm=21 stride_mm=14 dicom=true threads=1

test-fast: install  ## lint, and the tests that start no process, train nothing and take less than a second each (90 s on two cores)
	$(MAKE) --no-print-directory lint
	$(PYTEST) -m "not process and not heavy and not slow and not extended"

test: install lint types  ## lint, types, and the tests that take up to a few seconds each
	$(PYTEST) -m "not slow and not extended"

test-rest: install  ## what make test leaves out: slow computations, launchers, kills, privacy canary, wheel, browser
	$(PYTEST) -m "slow or extended"

test-all: test test-rest  ## every test

lint: install  ## ruff, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: install  ## let ruff format the code
	$(BIN)/ruff format .

types: install  ## mypy
	$(BIN)/mypy

cases: install  ## your delivery to model-ready cases: DELIVERY=DIR LABELS=FILE [STUDY=outputs/study SOURCE=dicom INGEST=keys PREPROCESS=keys]
	@# Not echoed: the paths of a delivery may name a patient.
	@$(BIN)/python -m ricenet.ingest source=$(SOURCE) "delivery=$(DELIVERY)" "labels=$(LABELS)" out=$(STUDY)/cohort $(INGEST) || test $$? -eq 4
	$(BIN)/python -m ricenet.verify cohort=$(STUDY)/cohort out=$(STUDY)/verify
	$(BIN)/python -m ricenet.preprocess cohort=$(STUDY)/cohort cases=$(STUDY)/cases $(PREPROCESS)

smoke: install  ## every stage once on a tiny grid (CI)
	rm -rf $(OUT)/smoke $(OUT)/smoke-cases
	$(BIN)/python -m ricenet.phantom out=$(OUT)/smoke-cases format=cases patients=24 folds=2 jobs=$(JOBS)
	$(BIN)/python -m ricenet.train -m cases=$(OUT)/smoke-cases experiment=smoke '+modalities=rd,rd_event' 'fold=range(2)'
	$(BIN)/python -m ricenet.train -m cases=$(OUT)/smoke-cases experiment=smoke control=shuffled_labels +modalities=rd 'fold=range(2)'
	$(BIN)/python -m ricenet.train -m cases=$(OUT)/smoke-cases experiment=smoke control=metadata_only 'fold=range(2)'
	$(BIN)/python -m ricenet.evaluate run=$(OUT)/smoke
	$(BIN)/python -m ricenet.explain run=$(OUT)/smoke +modalities=rd_event case=test cube_mm=42 stride_mm=42 curves=true
	$(BIN)/python -m ricenet.report run=$(OUT)/smoke
	rm -rf $(OUT)/smoke-model
	$(BIN)/python -m ricenet.predict export=$(OUT)/smoke-model run=$(OUT)/smoke +modalities=rd_event

ablation: install  ## the seven sets on 600 phantom patients, three folds (about 10 minutes on two cores); SEED=0
	$(BIN)/python -m ricenet.phantom out=$(OUT)/phantom600-seed$(SEED) format=cases patients=600 folds=3 seed=$(SEED) jobs=$(JOBS)
	$(BIN)/python -m ricenet.train -m cases=$(OUT)/phantom600-seed$(SEED) experiment=phantom_ablation seed=$(SEED) \
	  name=phantom_ablation-seed$(SEED) '+modalities=glob(*)' 'fold=range(3)' hydra.launcher.n_jobs=$(JOBS)
	$(BIN)/python -m ricenet.evaluate run=$(OUT)/phantom_ablation-seed$(SEED)
	$(BIN)/python -m ricenet.report run=$(OUT)/phantom_ablation-seed$(SEED)

.venv/.bench: .venv/.installed
	$(BIN)/pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev,hdbet,bench]'
	touch $@

bench: .venv/.bench  ## ours against its peers, interleaved: one JSON each under outputs/bench/ (45 minutes, nothing else running)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/augmentation.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/small_volumes.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/loading.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/step.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/occlusion.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python -m ricenet.phantom out=$(OUT)/bench-raw format=nifti patients=2 spacing_mm=1 seed=21
	$(BIN)/python benchmarks/preprocess.py $(OUT)/bench-raw rounds=1

findings: install  ## write docs/findings.md anew from the source
	PYTHONPATH=tests $(BIN)/python -m helpers.finding_codes

niivue:  ## fetch the pinned viewer of the pages again and check it (npm; its files are committed)
	sh ricenet/display/niivue/fetch.sh

clean:  ## remove everything that ricenet wrote under outputs/ (not .venv)
	find $(OUT) -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
