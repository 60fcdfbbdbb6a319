# livecd-sync's chores. `make` alone lists them.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS  = -s -w -X main.version=$(VERSION)
FUZZTIME ?= 30s
E2E      ?= $(CURDIR)/out/e2e

# As root, tests that need a real sshd and a real overlay mount must run; CI says
# to them that not being able to is a failure. Anybody else sees them skipped.
CI ?= $(shell [ "$$(id -u)" = 0 ] && echo true)
export CI
# Packages and man pages of one commit are the same whenever they are made.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
# The tests find the tools that are built here.
export PATH := $(CURDIR)/bin:$(PATH)

.DEFAULT_GOAL := help
# Of packages.
ARCH ?= $(shell $(GO) env GOARCH)
PACKAGES ?= $(CURDIR)/out/packages
STAGE = $(PACKAGES)/.stage

.PHONY: help build packages test e2e e2e-cuts lint demo docs conformance bench fuzz fmt cue-vet cover clean deps

help: ## list what there is to make
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-11s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What is sent to nodes without GNU tar is embedded, so it is built first.
NODESIDE = internal/overlay/nodeside/bin/linux-arm64.zst
NODESIDE_FROM := $(shell find internal/overlay/uppertar internal/overlay/nodeside -name '*.go' ! -name '*_test.go') go.mod go.sum

build: $(NODESIDE) ## build bin/livecd-sync, one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/livecd-sync ./cmd/livecd-sync

packages: deps build ## build a deb and an rpm package in out/packages, and as root on Debian install and run them
	rm -rf $(PACKAGES)
	mkdir -p $(STAGE)/man $(STAGE)/completion
	CGO_ENABLED=0 GOARCH=$(ARCH) $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $(STAGE)/livecd-sync ./cmd/livecd-sync
	bin/livecd-sync man $(STAGE)/man
	gzip -9n $(STAGE)/man/*.1
	@for shell in bash zsh fish; do bin/livecd-sync completion $$shell >$(STAGE)/completion/$$shell || exit 1; done
	$(GO) build -C packaging -buildvcs=false -o $(STAGE)/packaging .
	$(STAGE)/packaging -version $(VERSION) -arch $(ARCH) -stage $(STAGE) -out $(PACKAGES)
	rm -r $(STAGE)
	LIVECD_SYNC_PACKAGES=$(PACKAGES) $(GO) test -C packaging -count=1 ./...

test: deps cue-vet $(NODESIDE) ## everything that must pass: formatting, vet, schema, go.mod, and all tests with the race detector
	@unformatted=$$(gofmt -l cmd internal schema); test -z "$$unformatted" || { echo "not formatted (make fmt):" $$unformatted; exit 1; }
	$(GO) vet ./...
	$(GO) mod tidy -diff
	$(GO) test -race -timeout 30m ./...
	$(GO) test -parallel 16 -v -run '^TestEveryMisfortuneAtEveryRequest$$' ./internal/faultwalk

e2e: deps build ## boot live images in real machines (QEMU without KVM): as root, on Debian
	test/e2e/build-iso --dir $(E2E)
	LIVECD_SYNC_E2E=$(E2E) $(GO) test -count=1 -v -timeout 40m -skip '^TestCuts$$' ./test/e2e

e2e-cuts: deps build ## the same with the power cut in the middle of things; as long again
	test/e2e/build-iso --dir $(E2E)
	LIVECD_SYNC_E2E=$(E2E) $(GO) test -count=1 -v -timeout 40m -run '^TestCuts$$' ./test/e2e

lint: bin/golangci-lint ## run the linters of docs/lint.md
	bin/golangci-lint run ./...

demo: build ## a simulated site: plan, apply, and nothing left to do
	./scripts/demo

docs: ## write the pages that are made of other things
	UPDATE_DOCS=1 $(GO) test -count=1 -run '^TestConformance$$' ./internal/bmc/redfish

conformance: ## what clients of BMCs have to do, tried against every simulated family: out/conformance.txt
	$(GO) test -count=1 -run '^TestConformance$$' ./internal/bmc/redfish
	@cat out/conformance.txt

bench: $(NODESIDE) ## run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz: ## fuzz each target for FUZZTIME (30s)
	@grep -rl --include='*_test.go' '^func Fuzz' internal cmd | while read -r file; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "$$(dirname "$$file") $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "./$$(dirname "$$file")" || exit 1; \
		done; \
	done

fmt: bin/golangci-lint bin/cue ## format Go and CUE
	bin/golangci-lint fmt
	bin/cue fmt ./schema/...

cue-vet: bin/cue ## check the example against the schema, with CUE's own tool
	bin/cue vet -d '#Site' schema/site.cue examples/site.yaml
	bin/cue vet -c=false schema/site.cue schema/profiles.cue

cover: $(NODESIDE) ## write coverage.txt and show the total
	$(GO) test -coverpkg=./... -coverprofile=coverage.txt ./...
	$(GO) tool cover -func=coverage.txt | tail -n 1

clean: ## remove what was made
	rm -rf bin out coverage.txt internal/overlay/nodeside/bin/*.zst

# Programs that the tests run, and a C compiler for the race detector.
deps:
	@.ci/deps

$(NODESIDE): $(NODESIDE_FROM)
	$(GO) run ./internal/overlay/nodeside/pack $(@D)

# The tools have a module of their own, so that what they need does not become
# what livecd-sync needs.
bin/golangci-lint: tools/go.mod tools/go.sum
	$(GO) build -C tools -buildvcs=false -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

bin/cue: tools/go.mod tools/go.sum
	$(GO) build -C tools -buildvcs=false -o ../bin/cue cuelang.org/go/cmd/cue
	@touch $@
