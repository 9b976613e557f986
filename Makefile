# `make demo` and `make test` do the set-up that they need; a second call installs nothing.
# PYTHON=/path/to/python3.11 chooses the interpreter, VENV the folder of the environment.

VENV ?= .venv
PYTHON ?=
stamp := $(VENV)/.installed
core := $(VENV)/.core
run := PATH="$(abspath $(VENV))/bin:$$PATH"

.PHONY: help install demo mam2 tgm vimpac test test-faults test-transformers test-python docs lint clean
.DEFAULT_GOAL := help

help:
	@echo 'make install    create $(VENV): the pinned versions, mmcv compiled, this package'
	@echo 'make demo       pretrain a small BIMM in both stages and show what it learned; compiles nothing'
	@echo 'make mam2       pretrain a small MAM2 on generated clips, with a codebook made of them'
	@echo 'make tgm        pretrain a small TGM on generated clips and captions, and find clips by captions'
	@echo 'make vimpac     pretrain a small VIMPAC on generated clips, with a codebook made of them'
	@echo 'make test       lint, then all tests'
	@echo 'make test-faults kill trainings, change their processes, and feed 1,000 broken files (an hour)'
	@echo 'make test-transformers what uses transformers against releases 5.0, 5.17 and 5.24 of transformers'
	@echo 'make test-python other Pythons, with mmcv-lite; PYTHONS="python3.10 python3.13" chooses, COMPILE=1 runs all tests'
	@echo 'make docs       write the site to build/site; a warning or broken link is an error'
	@echo 'make lint       ruff check and ruff format --check'
	@echo 'make clean      remove caches and build files (not $(VENV), not work_dirs)'

$(stamp): $(wildcard requirements/*.txt) setup.py tools/misc/install.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash tools/misc/install.sh
	@touch $@ $(core)

$(core): $(wildcard requirements/*.txt) setup.py tools/misc/install.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash tools/misc/install.sh core
	@touch $@

install: $(stamp)

demo: $(core)
	@$(run) python tools/demo.py

mam2_dir := work_dirs/mam2_shapes
mam2: $(stamp)
	@$(run) python tools/dataset_converters/make_codebook.py configs/mam2/demo/mam2_shapes.py \
		$(mam2_dir)/codebook.pth --patch-size 8 --num-codes 64
	@$(run) python tools/train.py configs/mam2/demo/mam2_shapes.py --work-dir $(mam2_dir)

tgm_config := configs/tgm/demo/tgm_shapes.py
tgm_dir := work_dirs/tgm_shapes
tgm: $(stamp)
	@$(run) python tools/dataset_converters/make_small_clip.py $(tgm_config) $(tgm_dir)/clip
	@$(run) python tools/train.py $(tgm_config) --work-dir $(tgm_dir)
	@$(run) python tools/benchmarks/retrieval.py $(tgm_config) $(tgm_dir)/iter_800.pth

vimpac_codebook := work_dirs/codebook_shapes.pth
vimpac: $(stamp)
	@$(run) python tools/dataset_converters/make_codebook.py configs/vimpac/demo/vimpac_shapes.py \
		$(vimpac_codebook) --patch-size 4 --num-codes 64
	@$(run) python tools/train.py configs/vimpac/demo/vimpac_shapes.py

lint: $(stamp)
	@$(run) ruff check .
	@$(run) ruff format --check .

# Tests run in as many processes as there are cores, 8 at most, each with one thread. `make test WORKERS=0`
# runs them in one process, with torch's default of threads.
WORKERS ?= auto
test: lint
	@$(run) $(if $(filter 0,$(WORKERS)),,OMP_NUM_THREADS=1) \
		python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile

test-faults: $(stamp)
	@$(run) BIMM_LONG_TESTS=1 python -m pytest -s --timeout 7200 \
		tests/faults tests/engine/elastic tests/engine/strategies

test-transformers: $(stamp)
	@VENV="$(VENV)" bash tools/misc/test_transformers.sh

PYTHONS ?=
test-python:
	@VENV="$(VENV)" bash tools/misc/test_python.sh $(PYTHONS)

docs_venv := $(VENV)-docs
$(docs_venv)/.installed: requirements/docs.txt requirements/pins.txt
	@$(or $(PYTHON),$(wildcard $(VENV)/bin/python),python3) -m venv --clear $(docs_venv)
	@$(docs_venv)/bin/python -m pip --disable-pip-version-check install -q -r requirements/docs.txt -c requirements/pins.txt
	@touch $@

# a copy of what git knows, so that links are the same on the site and in the repository
docs: $(docs_venv)/.installed
	@rm -rf build/site_source && mkdir -p build/site_source
	@git ls-files -z -- '*.md' '*.py' '*.png' '*.json' '*.ipynb' requirements Makefile LICENSE CITATION.cff setup.py mkdocs.yml | xargs -0 cp --parents -t build/site_source
	@NO_MKDOCS_2_WARNING=1 $(docs_venv)/bin/mkdocs build --strict --quiet
	@echo 'the site: build/site/index.html'

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
