# make demo   train on generated images and see where the network looks (minutes, no network needed)
# make test   style and tests; on Linux with g++ the GPU's too, on an emulated one
# make fuzz   made-up files for every reader, MINUTES of processor time for each (READERS: some of them only)
# make bench  speed and memory against a reference
# Each makes .venv first if it is missing.

SUPPORTED = import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11 python3.10 python,\
	$(shell $(p) -c '$(SUPPORTED)' 2>/dev/null && echo $(p))))
VENV ?= .venv
RUN = $(VENV)/bin/python
GPU_VENV ?= .venv-gpu
FUZZ_VENV ?= .venv-fuzz
MINUTES ?= 30
# one process per processor; the tests of a file share what they prepare
TOGETHER = -n auto --dist loadfile
EMULATOR = $(and $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),$(shell command -v g++))

.PHONY: setup demo test test-gpu fuzz bench
setup: $(VENV)/ready

# Chainer's sdist builds with setuptools<81 only. pip up to 25 hands PIP_CONSTRAINT to the build,
# later ones PIP_BUILD_CONSTRAINT; setting both is safe.
$(VENV)/ready: EXTRAS = test
$(GPU_VENV)/ready: EXTRAS = test,test-gpu
$(FUZZ_VENV)/ready: EXTRAS = test,fuzz
$(VENV)/ready $(GPU_VENV)/ready $(FUZZ_VENV)/ready: setup.py
	@test -n "$(PYTHON)" || { echo "no Python 3.10 to 3.13 found: make PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(@D)
	echo 'setuptools<81' > $(@D)/constraints.txt
	PIP_CONSTRAINT=$(@D)/constraints.txt PIP_BUILD_CONSTRAINT=$(@D)/constraints.txt \
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(@D)/bin/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

demo: setup
	@out=result/demo-$$(date +%Y-%m-%d-%H-%M-%S) && \
	$(RUN) n_fold_train.py --dataset shapes --n-images 1080 --arch resnet8 --kfold 3 --epoch 10 \
		--batchsize 32 --gpu -1 --out $$out && \
	$(RUN) -m chainer_abn.demo $$out

test: setup
	$(RUN) -m ruff check .
	$(RUN) -m pytest $(TOGETHER)
	$(if $(EMULATOR),$(MAKE) test-gpu,@echo 'no emulated GPU here: it needs Linux on x86-64 and g++')

# the tests that need a GPU, on an emulated one: CuPy and Chainer are real (tests/emulator)
test-gpu: $(GPU_VENV)/ready
	$(GPU_VENV)/bin/python -m pytest -p emulator.plugin -m 'gpu or cuda' $(TOGETHER)

fuzz: $(FUZZ_VENV)/ready
	$(FUZZ_VENV)/bin/python tests/fuzz/run.py $(READERS) --minutes $(MINUTES)

bench: setup .venv-torch/ready
	$(RUN) benchmarks/attend.py
	$(RUN) benchmarks/batch_statistics.py
	$(RUN) benchmarks/onednn_choices.py
	$(RUN) benchmarks/flat_update.py
	$(RUN) benchmarks/input.py
	$(RUN) benchmarks/snapshot.py
	$(RUN) benchmarks/cpu.py --compile
	$(RUN) benchmarks/grad_cam.py

# PyTorch and pytorch-grad-cam, the references of benchmarks/cpu.py and grad_cam.py, in an environment of
# their own. grad-cam asks for torchvision, of which benchmarks/grad_cam_torch.py needs nothing: so it comes
# without what it asks for, and the rest of that is named here.
.venv-torch/ready: export PIP_DISABLE_PIP_VERSION_CHECK = 1
.venv-torch/ready: Makefile
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet 'torch==2.13.0' numpy \
		matplotlib opencv-python-headless pillow scikit-learn scipy tqdm
	.venv-torch/bin/python -m pip install --quiet --no-deps 'grad-cam==1.5.7' 'ttach==0.0.3'
	touch $@
