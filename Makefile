# Every command that a newcomer, a developer and CI type. Logic lives in infra/ and in the programs.

PYTHON ?= python3

.PHONY: help setup build run model-smollm2 test lint bench bench-cluster bench-edge bench-models kill chaos load services services-down cluster-build cluster cluster-down test-services clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/' | expand -t 14

setup: ## fetch ONNX Runtime into .runtime/ (once)
	@command -v $(PYTHON) >/dev/null || { echo "setup: no Python: apt-get install python3 python3-pip"; exit 1; }
	@$(PYTHON) infra/setup.py

build: setup ## the release build of `infera`
	@cargo build --release --locked --package infera

run: build ## the whole network on this machine
	@exec "$${CARGO_TARGET_DIR:-target}/release/infera" up

model-smollm2: setup ## SmolLM2-135M-Instruct into .runtime/models/ (once; 93 MB are fetched): infera up --model smollm2
	@bash infra/smollm2.sh

test: setup ## everything that must hold: style, docs, arrows, units, properties, suites, whole paths
	@bash infra/test.sh

lint: ## format, ruff, licences and bans of crates, clippy, docs
	@bash infra/test.sh lint

bench: build ## one table: throughput, latency, memory, streams, each as a ratio to a limit measured in the same run; BASE=program
	@bash infra/bench.sh

bench-cluster: cluster-build ## the same for the cluster's programs on RabbitMQ, PostgreSQL and MinIO of its own
	@bash infra/bench_cluster.sh

bench-edge: build ## the gateway beside onwards, Portkey and LiteLLM, which it installs into .runtime/ (once)
	@bash infra/bench_edge.sh

bench-models: setup ## decoding beside llama.cpp, onnxruntime-genai and OpenVINO GenAI, fetched into .runtime/ (once; 0.7 GB)
	@bash infra/bench_models.sh

kill: build ## 2,000 jobs, ten kill -9, and the independent checker over what is left
	@bash infra/kill.sh

chaos: cluster-build ## SIZE=full|small: a cluster killed, frozen and cut off under load, and an independent checker
	@bash infra/chaos.sh --size $(or $(SIZE),full)

load: ## load on what is up: SCENARIO=smoke|average|stress|spike|soak|breakpoint|stream-smoke|stream-average|stream-spike, RATE, DURATION, TARGET
	@$(PYTHON) loadtest/run.py $(or $(SCENARIO),smoke)

services: ## RabbitMQ (RABBIT=4.0|4.3|3.10|installed), PostgreSQL, MinIO on loopback: in containers, else private processes
	@$(PYTHON) infra/services.py up

services-down: ## end them; their data stay
	@$(PYTHON) infra/services.py down

cluster-build: setup ## the release builds of a cluster's programs
	@cargo build --release --locked -p infera-gateway-program -p infera-verifier-program -p infera-worker-program

cluster: cluster-build services ## two gateways, two verifiers, six workers of three owners, on this machine's servers
	@$(PYTHON) infra/cluster.py up

cluster-down: ## end them; their data stay
	@$(PYTHON) infra/cluster.py down

test-services: setup services ## what must hold on the real servers: suites of broker, ledger and archive, the cluster
	@bash infra/test_services.sh

clean: ## what the build made; data/ and .runtime/ stay
	@cargo clean
