# make demo   train on generated images and see where the network looks (minutes, no network needed)
# make test   style and tests
# make bench  speed and memory against a reference
# Each makes .venv first if it is missing.

SUPPORTED = import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11 python3.10 python,\
	$(shell $(p) -c '$(SUPPORTED)' 2>/dev/null && echo $(p))))
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: setup demo test bench
setup: $(VENV)/ready

# Chainer's sdist builds with setuptools<81 only. pip up to 25 hands PIP_CONSTRAINT to the build,
# later ones PIP_BUILD_CONSTRAINT; setting both is safe.
$(VENV)/ready: setup.py
	@test -n "$(PYTHON)" || { echo "no Python 3.10 to 3.13 found: make PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	echo 'setuptools<81' > $(VENV)/constraints.txt
	PIP_CONSTRAINT=$(VENV)/constraints.txt PIP_BUILD_CONSTRAINT=$(VENV)/constraints.txt \
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(RUN) -m pip install --quiet --editable '.[test]'
	touch $@

demo: setup
	@out=result/demo-$$(date +%Y-%m-%d-%H-%M-%S) && \
	$(RUN) n_fold_train.py --dataset shapes --n-images 1080 --arch resnet8 --kfold 3 --epoch 10 \
		--batchsize 32 --gpu -1 --out $$out && \
	$(RUN) -m chainer_abn.demo $$out

test: setup
	$(RUN) -m ruff check .
	$(RUN) -m pytest

bench: setup .venv-torch/ready
	$(RUN) benchmarks/attend.py
	$(RUN) benchmarks/batch_statistics.py
	$(RUN) benchmarks/onednn_choices.py
	$(RUN) benchmarks/flat_update.py
	$(RUN) benchmarks/input.py
	$(RUN) benchmarks/cpu.py --compile

# PyTorch, the reference of benchmarks/cpu.py, in an environment of its own
.venv-torch/ready:
	$(PYTHON) -m venv .venv-torch
	PIP_DISABLE_PIP_VERSION_CHECK=1 .venv-torch/bin/python -m pip install --quiet 'torch==2.13.0' numpy
	touch $@
