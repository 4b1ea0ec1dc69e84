# What a developer does, as commands. CI runs the same ones (.ci/run). `make` alone prints the list.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install
PROTOS := .venv-protos
JOBS   ?= 2 # processes that share the tests; each has a gigabyte, and the servers that its tests start
unexport PYTHONDONTWRITEBYTECODE # the tests start hundreds of processes, each of which would compile all of it anew
SERVERS := triton mlserver kserve # real servers of the Open Inference Protocol; their pins clash, so each has its own

.DEFAULT_GOAL := help
.PHONY: help setup servers fix lint check quick test debian bench bench-onnx bench-wire fuzz demo docs protos
.DELETE_ON_ERROR:

help: ## this list
	@echo "batchproxy: make ..."
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-10s %s\n' "$$name" "$$text"; done

setup: $(VENV)/.test ## make the environment for development in .venv
	@echo "== Ready: make quick while working, make test before pushing."

servers: $(SERVERS:%=.venv-%/.server) ## make the environments of the real servers that tests start

demo: $(VENV)/.demo ## embedded models behind the proxy, real traffic, a table; ONCE=1 stops after the table
	@$(BIN)/python -m batchproxy demo $(if $(filter-out 0,$(ONCE)),--once) $(ARGS)

fix: $(VENV)/.test ## format, and mend what can be mended by machine
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.test
	@echo "== Format"
	@$(BIN)/ruff format --check .
	@echo "== Style"
	@$(BIN)/ruff check .
	@echo "== Types (the first run takes about a minute)"
	@$(BIN)/mypy

check: lint ## style, types, import rules, docs in sync (about a minute)
	@echo "== Import rules, file twins, sizes, docs"
	@$(BIN)/python -m pytest tests/packaging -q -n $(JOBS)

quick: $(VENV)/.test ## unit and property tests, simulated worlds (two to three minutes)
	@$(BIN)/python -m pytest -n $(JOBS) $(wildcard tests/unit tests/property tests/simulation) $(ARGS)

test: debian servers lint ## everything: what CI runs
	@echo "== All tests"
	@$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

debian:
	@sed -n 's/^\([^# ]*\) *# command: \(.*\)/\1 \2/p' deps.apt | while read -r package command; do \
	    command -v "$$command" >/dev/null || { echo "The tests need $$command. On Debian: apt install $$package"; exit 1; }; done

bench: $(VENV)/.test ## micro figures, and an end-to-end table as ratios to plain echoes
	@$(BIN)/python -m benchmarks $(ARGS)

bench-onnx: $(VENV)/.test .venv-triton/.server ## ONNX models, embedded and behind Triton: the gain of batching, and how much callers get
	@for command in wrk h2load; do command -v "$$command" >/dev/null || \
	    { echo "make bench-onnx needs $$command. On Debian: apt install wrk nghttp2-client"; exit 1; }; done
	@$(BIN)/python -m benchmarks onnx $(ARGS)

bench-wire: $(VENV)/.test ## our listeners beside aiohttp, grpc.aio, nginx and HAProxy, under wrk and h2load
	@for command in wrk h2load nginx haproxy; do PATH="$$PATH:/usr/sbin" command -v "$$command" >/dev/null || \
	    { echo "make bench-wire needs $$command. On Debian: apt install wrk nghttp2-client nginx haproxy"; exit 1; }; done
	@$(BIN)/python -m benchmarks wire $(ARGS)

fuzz: $(VENV)/.test ## throw bytes at every parser for SECONDS (60) in all; ARGS names some of the targets
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(ARGS)

soak: $(VENV)/.test ## a million requests in SECONDS (600), servers that fail and die beneath; SEED (1) reproduces the schedule
	@$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1) $(ARGS)

docs: $(VENV)/.test ## write the generated pages again, and try what the pages say
	@$(BIN)/python -m tests.packaging.generated_docs
	@$(BIN)/python -m pytest tests/packaging -q -k "readme or docs or doctests"

protos: $(PROTOS)/.tools ## generate batchproxy/protos/*_pb2.py again
	@echo "== Generating batchproxy/protos"
	@$(PROTOS)/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. batchproxy/protos/*.proto

# ---------------------------------------------------------------- environments

$(VENV)/.made $(PROTOS)/.made $(SERVERS:%=.venv-%/.made):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "batchproxy needs Python 3.11 or newer as $(PYTHON): install it, or name it: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "Python's venv is missing. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "== Making an environment in $(@D) (some seconds)"
	@$(PYTHON) -m venv $(@D)
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	@echo "== Installing batchproxy with onnxruntime into $(VENV) (about 20 s, 250 MB)"
	@$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.made
	@echo "== Installing what the tests need into $(VENV), TensorFlow among it (70 to 100 s, 2.5 GB)"
	@$(PIP) -e '.[test,dev]'
	@touch $@ $(VENV)/.demo

.venv-%/.server: tests/servers/%.txt | .venv-%/.made
	@echo "== Installing $* into $(@D) (20 to 40 s, about 500 MB)"
	@$(@D)/bin/python -m pip --disable-pip-version-check install -qq --no-compile -r $<
	@touch $@

$(PROTOS)/.tools: | $(PROTOS)/.made
	@echo "== Installing the protobuf compiler into $(PROTOS) (some seconds)"
	@$(PROTOS)/bin/python -m pip --disable-pip-version-check install -q grpcio-tools==1.80.0 # newer ones make code that refuses protobuf 6, older ones warn
	@touch $@
