# One entry point for every check. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.locked
MCP1 := $(VENV)/mcp1/.locked
BENCH := $(VENV)/bench/.locked
DEMO := $(VENV)/demo/.locked
NODE_MODULES := $(patsubst %/package-lock.json,%/node_modules/.locked,$(wildcard tests/*/package-lock.json hack/*/package-lock.json))
GENERATORS := $(basename $(notdir $(wildcard hack/gen_*.py hack/generate_*.py)))

# hack/bench/vmcp is left out: its peers are installed in .venv/bench only.
TYPED_HACK := -p hack.controlplane -p hack.cluster -p hack.run -p hack.demo -p hack.hostile_matrix -p hack.bench.operator \
  $(patsubst hack/%.py,-m hack.%,$(filter-out hack/__init__.py,$(wildcard hack/*.py)))

# How long `uninstall` waits for finalizers.
PATIENCE ?= 2m
IMG ?= mcp-operator:latest
VMCP_IMG ?= mcp-vmcp:latest
CONTAINER_TOOL ?= docker
# The user's kubectl, or the one that was built with the control plane.
KUBECTL ?= $(shell command -v kubectl || echo "$$($(BIN)/python -m hack.controlplane binaries)/kubectl")

# The minor version of the control plane that the envtests run against; empty: the newest. Others are built once, too.
KUBERNETES ?=
ASSETS = $(if $(KUBERNETES),export KUBEBUILDER_ASSETS; KUBEBUILDER_ASSETS=$$($(BIN)/python -m hack.controlplane binaries --kubernetes $(KUBERNETES));)

PYTEST := $(BIN)/pytest -q
# Half of what tests do is wait: two workers for each core, at most 8. tests/support/schedule.py says what runs where and when.
WORKERS ?= $(shell n=$$(( 2 * $$(nproc) )); echo $$(( n < 8 ? n : 8 )))
PARALLEL := -n $(WORKERS) --dist=loadfile
ARGS ?=

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-zA-Z0-9_-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Use

.PHONY: run
run: venv ## start control plane and operator, apply the samples, show what becomes of them; ONCE=1: check them and exit
	@$(BIN)/python -m hack.run $(if $(filter-out 0,$(ONCE)),--once) $(ARGS)

.PHONY: vmcp-demo
vmcp-demo: binaries node $(DEMO) ## the gateway in front of three real MCP servers, configured by the operator; ARGS=--stay keeps it
	@$(BIN)/python hack/vmcp_demo.py $(ARGS)

.PHONY: install
install: ## install the CRDs into the cluster of your kubeconfig
	$(KUBECTL) apply --server-side --force-conflicts -k config/crd

.PHONY: uninstall
uninstall: ## remove the CRDs, and with them every object of these kinds
	@$(KUBECTL) delete --ignore-not-found --timeout=$(PATIENCE) -k config/crd || \
	{ echo "error: some objects have finalizers that nobody removed within $(PATIENCE): docs/operations.md, Upgrading and removing" >&2; exit 1; }

.PHONY: docker-build
docker-build: ## build the images IMG and VMCP_IMG
	$(CONTAINER_TOOL) build -f Dockerfile -t $(IMG) .
	$(CONTAINER_TOOL) build -f Dockerfile.vmcp -t $(VMCP_IMG) .

.PHONY: deploy
deploy: ## deploy CRDs and operator, with IMG and VMCP_IMG, into the cluster of your kubeconfig
	@hack/deploy.sh "$(IMG)" "$(VMCP_IMG)" | $(KUBECTL) apply --server-side --force-conflicts -f -

.PHONY: undeploy
undeploy: uninstall ## remove what `deploy` made: first the CRDs, while the operator can still let go of their objects
	@hack/deploy.sh "$(IMG)" "$(VMCP_IMG)" | $(KUBECTL) delete --ignore-not-found -f -

.PHONY: cluster-up cluster-down
cluster-up: venv ## start a Kubernetes of one node with real pods on this machine; needs root, no container engine
	@$(BIN)/python -m hack.cluster up
	@$(BIN)/python -m hack.cluster images

cluster-down: venv ## stop it and undo every trace, also after a crash; what was built stays in the cache directory
	@$(BIN)/python -m hack.cluster down

.PHONY: kind-e2e
kind-e2e: ## end to end on a kind cluster; needs docker, kind and a network, CI does not run it
	@hack/kind_e2e.sh "$(IMG)" "$(VMCP_IMG)"

##@ Check

.PHONY: lint
lint: venv verify-generated ## style, strict types, import contracts, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy $(TYPED_HACK)
	$(BIN)/lint-imports

.PHONY: test
test: test-setup ## every suite with fixed seeds (budget: 7 minutes on 2 cores)
	$(PYTEST) $(PARALLEL) --durations=10 tests $(ARGS)

.PHONY: test-long
test-long: test-setup ## every suite with full counts; prints seed and duration
	@export TEST_LONG=1 TEST_SEED=$${TEST_SEED:-$$RANDOM}; echo "==> seed $$TEST_SEED (repeat with TEST_SEED=$$TEST_SEED make test-long)"; start=$$SECONDS; status=0; \
	$(PYTEST) $(PARALLEL) --durations=10 --timeout=2400 --hypothesis-seed=$$TEST_SEED tests $(ARGS) || status=$$?; \
	echo "==> seed $$TEST_SEED, $$(( SECONDS - start )) s, exit status $$status"; exit $$status

.PHONY: test-pythons
test-pythons: venv ## unit tests of the runtime, TLS and HTTP on Python 3.12 to 3.14, those that are there; ARGS="3.13 -- tests/unit"
	@$(BIN)/python -m hack.pythons $(ARGS)

.PHONY: matrix
matrix: test-setup ## try every published release of the interoperability matrix, and write docs/interoperability.md
	@rows=$$(mktemp -d); trap 'rm -rf "$$rows"' EXIT; \
	TEST_LONG=1 MATRIX_ROWS="$$rows" $(PYTEST) $(PARALLEL) --timeout=600 tests/matrix $(ARGS) && $(BIN)/python -m hack.interop_table "$$rows"

.PHONY: unit envtest envtest-oldest faults conformance e2e
unit: venv ## tests without servers
	$(PYTEST) $(PARALLEL) tests/unit $(ARGS)
envtest: binaries ## tests against a real API server; KUBERNETES=1.34: of that minor version
	$(ASSETS) $(PYTEST) $(PARALLEL) tests/envtest $(ARGS)
envtest-oldest: ## the same against the oldest Kubernetes that is supported (building it takes some minutes, once)
	@$(MAKE) envtest KUBERNETES=1.33
faults: binaries ## tests with broken connections, killed processes, stopped clocks
	$(PYTEST) $(PARALLEL) tests/faults $(ARGS)
conformance: venv node mcp1 ## the protocol's conformance suite
	$(PYTEST) tests/conformance $(ARGS)
e2e: test-setup ## whole programs together
	$(PYTEST) tests/e2e $(ARGS)

.PHONY: e2e-cluster
e2e-cluster: venv ## everything in real pods, in a cluster of its own; says "skipped" where there is no root; KEEP=1 keeps it
	@hack/e2e_cluster.sh $(ARGS)

.PHONY: bench
bench: binaries bench-venv ## measure the operator beside its peers on one control plane; ARGS="--full" for all sizes
	@$(BIN)/python -m hack.bench.operator $(ARGS)

.PHONY: bench-vmcp
bench-vmcp: bench-venv ## measure the gateway beside its peers on pinned cores; ARGS="--full", "--gateway PATH", --help
	@$(BIN)/python hack/bench/vmcp/run.py $(ARGS)

.PHONY: hostile-matrix
hostile-matrix: venv ## drive every limit of the gateway at ten times its value beside a bystander; ARGS="--short", "--write"
	@$(BIN)/python -m hack.hostile_matrix $(ARGS)

.PHONY: test-setup
test-setup: binaries node mcp1 $(DEMO)

##@ Develop

# pip installs uv as it is locked, and uv everything else: see hack/uv_sync.sh.
$(STAMP): locks/dev.txt hack/uv_sync.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; set PYTHON=")'
	@echo "==> making $(VENV) from $< (usually 20 s)"
	@$(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/[^\]$$/p' $< > $(VENV)/uv.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	@hack/uv_sync.sh $(BIN)/uv $(VENV) $<
	@touch $@

# Beside the main environment: the two lines of the SDK cannot be installed together, the bridge of the demo needs the older
# one, and the peers of the benchmarks are nobody else's business.
$(VENV)/%/.locked: locks/%.txt hack/uv_sync.sh | $(STAMP)
	@echo "==> making $(VENV)/$* from $< (usually 10 s)"
	@$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(VENV)/$*
	@hack/uv_sync.sh $(BIN)/uv $(VENV)/$* $<
	@touch $@

%/node_modules/.locked: %/package-lock.json hack/npm_ci.sh | $(STAMP)
	@hack/npm_ci.sh $*

.PHONY: venv mcp1 bench-venv node binaries
venv: $(STAMP) ## make the locked virtual environment
mcp1: $(MCP1) ## make the environment with the older line of the MCP SDK
bench-venv: $(BENCH) ## make the environment with the peers of the benchmarks
node: $(NODE_MODULES) ## install the locked Node packages; Node itself is in the virtual environment
binaries: venv ## find or build etcd, kube-apiserver, kube-controller-manager, kubectl (first time: about 6 minutes)
	@$(BIN)/python -m hack.controlplane binaries >/dev/null

.PHONY: manifests
manifests: venv ## generate CRDs, RBAC and reference pages from the code
	@for name in $(GENERATORS); do $(BIN)/python -m hack.$$name; done

.PHONY: verify-generated
verify-generated: venv ## fail when a generated file is not current
	@for name in $(GENERATORS); do $(BIN)/python -m hack.$$name --check || { echo "run: make manifests" >&2; exit 1; }; done

.PHONY: format
format: venv ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: lock
lock: venv ## resolve the dependencies of pyproject.toml again
	@for extra in operator vmcp dev; do \
	  $(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra $$extra pyproject.toml -o locks/$$extra.txt; done
	@$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev --extra bench pyproject.toml -o locks/bench.txt
	@$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header locks/mcp1.in -o locks/mcp1.txt
	@$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-header locks/demo.in -o locks/demo.txt
	@hack/lock_matrix.sh
