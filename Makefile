# The short names for what people do here. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help build test test-c test-python trainers demo reproduce gpu-check lint format fuzz clean

# A Python of your own: its packages (torch above all) are used as they are. Without it, python3 and a clean .venv.
PYTHON ?=
export PYTHON

JOBS := $(shell nproc 2>/dev/null || echo 2)

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build: ## build/libvisatb.so, and .venv with the Python package in it
	tools/system-packages build
	cmake --preset release -DVISATB_TESTS=OFF
	cmake --build --preset release -j $(JOBS)
	tools/python-env --library build/libvisatb.so

demo: ## VisATB from end to end on real images, into demo-output/; DEMO=quick: every step in a minute
	tools/system-packages build
	tools/python-env examples/python/demo/requirements.txt
	examples/python/demo/run .venv/bin $(DEMO)

reproduce: ## the paper's methods over several seeds, into docs/reproduction.md (one to two hours on two cores)
	tools/system-packages build
	tools/python-env examples/python/demo/requirements.txt examples/python/reproduce/requirements.txt
	.venv/bin/python examples/python/reproduce --document docs/reproduction.md $(REPRODUCE)

test: test-c test-python ## all tests: C under ASan, UBSan and TSan, then Python

test-c:
	tools/system-packages build test
	cmake --preset asan
	cmake --build --preset asan -j $(JOBS)
	ctest --preset asan --no-tests=error -j $(JOBS)
	cmake --preset tsan
	cmake --build --preset tsan -j $(JOBS) --target test_threads test_loss_threads test_loss_threads_in_slices test_parallel test_linear_threads
	ctest --preset tsan -R 'test_(threads|loss_threads|parallel|linear_threads)' --no-tests=error
	cmake --preset release -DVISATB_TESTS=ON
	cmake --build --preset release -j $(JOBS) --target visatb test_memory
	ctest --preset release -R test_memory --no-tests=error
	tools/check-install

test-python:
	tools/system-packages build test
	tools/python-env tests/python/requirements.txt examples/python/demo/requirements.txt examples/python/reproduce/requirements.txt
	.venv/bin/python -m pytest tests/python $(PYTEST)

trainers: ## run LLaVA's trainer and others that need an environment of their own, and record it (some GB); TRAINERS=llava
	tools/system-packages build test
	tools/trainer-check $(TRAINERS)

gpu-check: ## build, test, sanitize and time the CUDA code on this machine's GPU
	tools/gpu-check $(GPU_CHECK)

lint: ## clang-format, clang-tidy, ruff and mypy, changing nothing
	tools/system-packages build test lint
	tools/python-env tests/python/requirements.txt
	tools/lint

format: ## put all code into its format
	tools/lint --fix

fuzz: ## libFuzzer on the readers of files, for SECONDS (60)
	tools/system-packages build fuzz
	cmake --preset fuzz
	cmake --build --preset fuzz -j $(JOBS)
	mkdir -p build/fuzz/found
	build/fuzz/tests/fuzz/fuzz_files -max_total_time=$(or $(SECONDS),60) -max_len=4096 build/fuzz/found tests/fuzz/corpus

clean: ## remove everything that was built
	rm -rf build .venv .venv-trainers demo-output*
