# What a fresh clone needs: Python 3.11, make, and a package registry.
PYTHON ?= python3.11
PORT ?=
EMBEDDINGS ?=
QUICK ?=
ENGINE ?=
WHAT ?=
SECONDS ?=
PROCESSES ?=
FAR ?=
IMAGES ?=

FLYWHEEL := .flywheel/envs/cli/bin/flywheel
DEV := .flywheel/envs/dev/bin
SERVICES := cli gateway engine worker

.DEFAULT_GOAL := help
.PHONY: help up down test test-long test-two-of-each lint lock clean bench-adapters bench-evaluate bench-fairness bench-finetune bench-gateway bench-guardrails bench-plan bench-precision bench-redis-cluster bench-routing bench-semantic-cache bench-shared-cpu dashboards loadtest loadtest-soak loadtest-spike loadtest-stress manifests profile-gateway prove-images sbom simulate-fleet validate-deploy

help: ## Show this list.
	@echo "Usage: make TARGET [VARIABLE=value]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Variables of up: PORT=8000 (the gateway's port), EMBEDDINGS=1 (start the embedding engine too)."
	@echo "Variables of bench-adapters: QUICK=1 (a fake engine, Flywheel's own time only, about a minute)."
	@echo "Variables of bench-evaluate: QUICK=1 (fewer rows, one round)."
	@echo "Variables of bench-finetune: QUICK=1 (without an engine, under 4 minutes)."
	@echo "Variables of bench-gateway: QUICK=1 (fewer and shorter rounds, under 5 minutes), ENGINE=http://127.0.0.1:8100 (a vLLM to compare with)."
	@echo "Variables of bench-routing: QUICK=1 (engines that only simulate a prefix cache, about a minute)."
	@echo "Variables of loadtest and its kin: PROCESSES=4 (locust sends from so many processes), SECONDS=300 (soak: shorter)."
	@echo "Variables of simulate-fleet: QUICK=1 (small fleets, under a minute, no pictures), FAR=1 (10,000 engines, under two hours)."
	@echo "Variables of prove-images: IMAGES='gateway worker' (build only these, run nothing)."
	@echo "Variables of profile-gateway: WHAT=pass-through or cache-hit."

up: ## Install what is missing, start everything, print how to use it.
	@$(PYTHON) cli/bootstrap.py $(SERVICES)
	@$(FLYWHEEL) up $(if $(PORT),--port $(PORT)) $(if $(filter-out 0,$(EMBEDDINGS)),--embeddings)

down: ## Stop everything that `make up` started.
	@if [ -x $(FLYWHEEL) ]; then $(FLYWHEEL) down; else echo "Nothing runs: nothing is installed yet."; fi

test: lint ## Check the code, then run every test but the long ones.
	@$(PYTHON) cli/bootstrap.py $(SERVICES) compress deploy
	@$(DEV)/python -m pytest

test-long: ## Run the tests that take minutes each, with several real engines.
	@$(PYTHON) cli/bootstrap.py $(SERVICES) compress
	@$(DEV)/python -m pytest -m long

test-two-of-each: ## Run the end-to-end suite with two gateways, two engines, three workers and PostgreSQL, then kill one of each.
	@$(PYTHON) cli/bootstrap.py $(SERVICES) compress
	@FLYWHEEL_TEST_TWO_OF_EACH=1 $(DEV)/python -m pytest tests/end_to_end
	@FLYWHEEL_TEST_TWO_OF_EACH=1 $(DEV)/python -m pytest tests/end_to_end/test_one_of_each_dies.py -m long

lint: ## Check style, types and the direction of imports.
	@$(PYTHON) cli/bootstrap.py dev
	@$(DEV)/ruff check .
	@$(DEV)/ruff format --check .
	@$(DEV)/lint-imports
	@$(DEV)/mypy

lock: ## Choose the packages' versions anew and write locks/. KEEP=1 keeps those that still fit.
	@$(PYTHON) -m cli.lock $(if $(KEEP),--keep)

bench-gateway: ## Measure the gateway beside its peers; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev peers
	@ENGINE=$(ENGINE) $(DEV)/python -m loadtests.peers $(if $(filter-out 0,$(QUICK)),--quick)

bench-adapters: ## Measure how soon adapters answer and what they cost in memory; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev $(if $(filter-out 0,$(QUICK)),,engine worker)
	@$(DEV)/python -m loadtests.adapters $(if $(filter-out 0,$(QUICK)),--simulated)

bench-evaluate: ## Measure lm-evaluation-harness through the gateway beside straight at vLLM; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev gateway engine worker
	@$(DEV)/python -m loadtests.evaluate $(if $(filter-out 0,$(QUICK)),--quick)

bench-fairness: ## Measure what a tenant feels of another one's flood; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev
	@$(DEV)/python -m loadtests.fairness

bench-finetune: ## Measure a fine-tuning job beside the bare trl and peft loop; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev engine worker $(if $(filter-out 0,$(QUICK)),,gateway)
	@$(DEV)/python -m loadtests.finetune $(if $(filter-out 0,$(QUICK)),--quick)

bench-guardrails: ## Measure what each guardrail of a key adds to a request; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev
	@$(DEV)/python -m loadtests.guardrails

bench-plan: ## Compare what `flywheel plan` says of a real engine with what it does; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev engine
	@$(DEV)/python -m loadtests.plan

bench-precision: ## Measure an engine that computes in 16 bits and one in 32 on this CPU; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev engine
	@$(DEV)/python -m loadtests.precision

bench-redis-cluster: ## Measure the gateway over a Redis cluster of six local nodes beside one Redis; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev
	@$(DEV)/python -m loadtests.redis_cluster

bench-routing: ## Measure prefix-aware routing beside round robin, over two engines; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev $(if $(filter-out 0,$(QUICK)),,engine)
	@$(DEV)/python -m loadtests.routing $(if $(filter-out 0,$(QUICK)),--simulated)

bench-semantic-cache: ## Measure how often the semantic cache is right, on paraphrases and near misses; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev engine
	@$(DEV)/python -m loadtests.semantic_cache

bench-shared-cpu: ## Measure an engine whose threads wait by spinning or asleep, alone and beside a busy process; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev engine
	@$(DEV)/python -m loadtests.shared_cpu

simulate-fleet: ## Compare routing policies over growing fleets in simulated time; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev
	@$(DEV)/python -m loadtests.fleet $(if $(filter-out 0,$(QUICK)),--quick) $(if $(filter-out 0,$(FAR)),--far)

loadtest: ## Drive two gateways and a small fake fleet for a minute, with thresholds; the last line is JSON.
	@$(PYTHON) cli/bootstrap.py dev loadtest
	@$(DEV)/python -m loadtests.load steady $(if $(PROCESSES),--processes $(PROCESSES))

loadtest-spike: ## The same with ten times the requests for half a minute.
	@$(PYTHON) cli/bootstrap.py dev loadtest
	@$(DEV)/python -m loadtests.load spike $(if $(PROCESSES),--processes $(PROCESSES))

loadtest-stress: ## The same with twice the requests every 20 seconds, until it bends.
	@$(PYTHON) cli/bootstrap.py dev loadtest
	@$(DEV)/python -m loadtests.load stress $(if $(PROCESSES),--processes $(PROCESSES))

loadtest-soak: ## The same for 30 minutes: memory is flat, nothing is left behind. SECONDS=300 shortens it.
	@$(PYTHON) cli/bootstrap.py dev loadtest
	@$(DEV)/python -m loadtests.load soak $(if $(SECONDS),--seconds $(SECONDS)) $(if $(PROCESSES),--processes $(PROCESSES))

profile-gateway: ## Show where the gateway's microseconds go.
	@$(PYTHON) cli/bootstrap.py dev peers
	@$(DEV)/python -m loadtests.peers.profile $(WHAT)

dashboards: ## Write Grafana's dashboards anew from deploy/observability/grafana/make.py.
	@$(PYTHON) cli/bootstrap.py dashboards
	@.flywheel/envs/dashboards/bin/python deploy/observability/grafana/make.py

manifests: ## Write anew what k8s/ makes of other files: the Helm chart and the Prometheus operator's rules.
	@$(PYTHON) cli/bootstrap.py dev deploy
	@$(DEV)/python -m k8s.make

validate-deploy: ## Prove what can be proven of compose, images and Kubernetes without an engine or a cluster.
	@$(PYTHON) cli/bootstrap.py $(SERVICES) dev deploy policies
	@$(DEV)/python -m deploy.checks.validate

prove-images: ## Execute the Dockerfile without an engine, and run the stack of docker-compose.yml out of what it makes. Needs root.
	@$(PYTHON) cli/bootstrap.py cli deploy
	@.flywheel/envs/deploy/bin/python -m deploy.prove.build $(IMAGES)
	@$(if $(IMAGES),,.flywheel/envs/cli/bin/python -m deploy.prove.run)

sbom: ## Write what each image's Python packages are to build/sbom, in CycloneDX's form.
	@$(PYTHON) cli/bootstrap.py deploy
	@.flywheel/envs/deploy/bin/python -m deploy.sbom

clean: down ## Stop everything and remove environments, state and caches.
	@rm -rf .flywheel .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
