# make demo | make test | make bench | make lint: each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
FOLDERS := extract store models analysis

.PHONY: demo test bench lint tree preflight clean
.DEFAULT_GOAL := demo

demo: .venv/ready
	$(BIN)/mixed-signals demo

# One thread for each of the processes that run tests: with more of them than cores, small products wait for one another.
test: lint
	$(BIN)/python -m pytest --quiet --doctest-modules _tree/mixed_signals
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --durations 25

bench: .venv/ready
	for script in tests/benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

lint: .venv/ready tree
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Static readers (mypy, doctest collection) do not follow import hooks: a git-ignored tree of links serves them.
tree:
	@mkdir -p _tree/mixed_signals
	@for folder in $(FOLDERS); do ln -sfn ../../$$folder _tree/mixed_signals/$$folder; done

preflight:
	@$(PYTHON) extract/preflight.py

.venv/ready: pyproject.toml setup.py constraints.txt | preflight
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	@touch $@

clean:
	rm -rf .venv _tree build dist *.egg-info
