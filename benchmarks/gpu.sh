#!/usr/bin/env bash
# All that waits for a machine with an NVIDIA GPU, in under 8 minutes.
#
#   benchmarks/gpu.sh [OUT]
#       what is there; the tests marked gpu; short trainings, repeated and captured; the attention kernel
#       against the copy bandwidth; the input pipeline; the training step against PyTorch's, where there is
#       PyTorch. Each part has a time limit; when one fails the others go on, and the exit status is 1.
#   benchmarks/gpu.sh cifar FOLDER [OUT]
#       ResNet-110 with and without attention, 30 epochs of one fold of 5, on CIFAR-10's 50,000 training
#       images as a folder of class folders: their errors. CAPTURE=1 takes the captured step, VARIANTS="abn"
#       or "baseline" one of the two. A run that OUT holds already is gone on with. Without a time limit.
#
# Results are left in OUT (default benchmarks/results/gpu-<date>): log.txt, all that is printed, and files of
# each part. PYTHON names the interpreter (default: .venv/bin/python where it is there, else python3).
# chainer_abn is used from this checkout and need not be installed.
#
# On a machine that reaches no package registry, with CuPy, cuDNN 9, pytest, scikit-learn, matplotlib, pillow
# and threadpoolctl, what else is missing can be brought as wheels. Chainer's is made anywhere by
#
#   echo 'setuptools<81' > constraints.txt
#   PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
#       python3 -m pip wheel --no-deps --wheel-dir wheels 'chainer==7.8.1'
#
# and WHEELS=wheels benchmarks/gpu.sh takes all of a folder for its own run, without installing them.
set -uo pipefail

limit=475                       # seconds of all parts together
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

main() {
    local path=$root
    if [[ -n $wheels ]]; then
        "$python" -m pip install --quiet --no-index --no-deps --target "$temporary" "$wheels"/*.whl || exit 2
        path=$path:$temporary
    fi
    export PYTHONPATH=$path${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 python
    "$python" -c '
import sys
from chainer_abn.runtime.devices import find_gpus
count, reason = find_gpus()
sys.exit(f"gpu.sh: this needs a GPU: {reason}" if reason else 0)' || exit 2
    "$what"
}

cifar() {
    # shellcheck disable=SC2086     # several variants are several words
    "$python" benchmarks/gpu_cifar.py "$folder" "$out" --variants ${VARIANTS:-abn baseline} \
        ${CAPTURE:+--capture}
}

all() {
    parts=() failed=0
    part 'what is there' 30 bash -c there
    part 'tests' 190 "$python" -m pytest -m gpu -rs --durations=5 --junitxml="$out/tests.xml"
    part 'attention kernel' 40 "$python" benchmarks/gpu_attend.py --json "$out/attend.json"
    part 'steps of resnet110' 110 "$python" benchmarks/gpu_steps.py --cases resnet110 --out "$out"
    part 'trainings' 70 "$python" benchmarks/gpu_trainings.py --json "$out/trainings.json"
    part 'input pipeline' 30 "$python" benchmarks/gpu_input.py --json "$out/input.json"
    # the rest of the time
    part 'steps of resnet50' "$limit" "$python" benchmarks/gpu_steps.py --cases resnet50 --out "$out"
    printf '\n=== all parts\n'
    printf '%s\n' "${parts[@]}" "results: $out"
    return "$failed"
}

# part NAME SECONDS COMMAND...: run it for so long at most, and no longer than all parts have
part() {
    local name=$1 seconds=$2 started=$SECONDS status=124 told
    shift 2
    ((seconds > limit - SECONDS)) && seconds=$((limit - SECONDS))
    printf '\n=== %s\n' "$name"
    if ((seconds > 0)); then
        timeout --kill-after=5 "$seconds" "$@"
        status=$?
    fi
    case $status in
        0) told=ok ;;
        124 | 137) told="out of time" failed=1 ;;
        *) told="failed with status $status" failed=1 ;;
    esac
    parts+=("$(printf '%-22s %-26s %4d s' "$name" "$told" $((SECONDS - started)))")
}

there() {
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv
    "$python" -m chainer_abn.runtime
}
export -f there

# an existing folder or program by its full path, since all runs in the root
full() {
    printf '%s/%s\n' "$(cd "$(dirname "$1")" && pwd)" "$(basename "$1")"
}

python=${PYTHON:-}
if [[ -z $python ]]; then
    python=python3
    [[ -x $root/.venv/bin/python ]] && python=$root/.venv/bin/python
elif [[ $python == */* ]]; then
    python=$(full "$python")
fi
what=all
if [[ ${1:-} == cifar ]]; then
    what=cifar
    folder=${2:?cifar needs a folder of class folders}
    folder=$(full "$folder")
    shift 2
fi
out=${1:-$root/benchmarks/results/gpu-$(date +%Y-%m-%d-%H-%M-%S)}
mkdir -p "$out" || exit 2
out=$(full "$out")
wheels=${WHEELS:+$(full "$WHEELS")}
cd "$root" || exit 2
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
main 2>&1 | tee -a "$out/log.txt"
exit "${PIPESTATUS[0]}"
