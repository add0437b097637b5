# Two commands do all set-up on a fresh machine: `make demo` and `make test`.

# One target directory for every checkout, outside of them.
TIDEMILL_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tidemill
CARGO_TARGET_DIR ?= $(TIDEMILL_CACHE)/target
export TIDEMILL_CACHE CARGO_TARGET_DIR

# Kafka's client speaks TLS and SCRAM where it can be built with OpenSSL.
FEATURES ?= $(shell pkg-config --exists openssl 2>/dev/null && echo --features kafka-tls)

.PHONY: demo test unit lint bench build

# The main job in one process with nothing installed: a generated shop, the views of views/, a SQLite file, the SQL port.
# Kafka's client, a C build, is left out.
demo:
	@echo "building (about 10 minutes on 2 cores the first time, seconds after that) ..."
	cargo build --profile demo --no-default-features --bin tidemill
	$(CARGO_TARGET_DIR)/demo/tidemill demo $(DEMO)

# Everything, real MySQL and MariaDB included: they are fetched into TIDEMILL_CACHE and started on loopback.
test: lint
	@rm -f $(CARGO_TARGET_DIR)/not-run.txt
	TIDEMILL_NOT_RUN=$(CARGO_TARGET_DIR)/not-run.txt cargo test $(FEATURES) --no-fail-fast
	@if [ -s $(CARGO_TARGET_DIR)/not-run.txt ]; then echo "not run here, and why:"; sort -u $(CARGO_TARGET_DIR)/not-run.txt; \
	else echo "nothing was left out"; fi

# What needs no server.
unit:
	cargo test $(FEATURES) --lib --bins

lint:
	cargo fmt --check
	cargo clippy --all-targets $(FEATURES) -- -D warnings

bench:
	cargo bench

build:
	cargo build --release $(FEATURES) --bin tidemill
