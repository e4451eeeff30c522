#!/usr/bin/env bash
# Builds, tests and measures everything that needs a GPU: one command, no network, 8 minutes.
#
#     bash benchmarks/gpu.sh
#
# Figures go to benchmarks/results/gpu-<machine>.jsonl with pictures beside it, logs to
# benchmarks/results/gpu-*.log; where OUT is set, logs go there, and copies of the figures too.
# A stage that fails does not stop the later ones, but makes the exit status 1.
#
#     PYTHON                 the interpreter, which has torch (python3)
#     EMOKERNEL_GPU_SECONDS  for everything (470)
#     EMOKERNEL_GPU_PATIENCE what the limits of the stages are multiplied by (1)
#     EMOKERNEL_GPU_JOBS     processes of the tests, where pytest-xdist is installed (half the cores)

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
root=$PWD
results=benchmarks/results
logs=${OUT:-$results}
total=${EMOKERNEL_GPU_SECONDS:-470}
patience=${EMOKERNEL_GPU_PATIENCE:-1}
decode_seconds=80 # kept for the decode benchmark
ops_seconds=120   # and for that of the operations, at least
mkdir -p "$results" "$logs"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false

python=
for candidate in "${PYTHON:-}" python3 python; do
    if [[ -n $candidate ]] && "$candidate" -c "import torch" 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [[ -z $python ]]; then
    echo "gpu.sh: no python3 here has torch; name one that has in PYTHON" >&2
    exit 1
fi
arch=$("$python" -c "
import torch
if torch.cuda.is_available():
    print('{}{}'.format(*torch.cuda.get_device_capability()))
" 2>/dev/null)
if [[ -z $arch ]]; then
    echo "gpu.sh: torch finds no GPU here, so there is nothing to build for, test or measure" >&2
    exit 1
fi

summary=()
failed=0

left() { echo $((total - SECONDS)); }
# at_least A B, at_most A B: the larger, the smaller of two numbers
at_least() { echo $(($1 > $2 ? $1 : $2)); }
at_most() { echo $(($1 < $2 ? $1 : $2)); }

# note NAME STATUS SECONDS [REMARK]
note() {
    local line
    line=$(printf '%-12s exit %-4s %4s s  %s' "$1" "$2" "$3" "${4:-}")
    summary+=("$line")
    echo "== $line"
    [[ $2 == 0 || $2 == - ]] || failed=1
}

# stage NAME LIMIT COMMAND...: runs it for at most LIMIT seconds, with its output in a log
stage() {
    local name=$1 limit=$(($2 * patience)) start=$SECONDS status remark=
    shift 2
    echo "== $name: at most $limit s"
    timeout -k 10 "$limit" "$@" >"$logs/gpu-$name.log" 2>&1
    status=$?
    [[ $status == 124 || $status == 137 ]] && remark="ran out of its $limit s"
    note "$name" "$status" $((SECONDS - start)) "$remark"
    return $status
}

build() {
    "$python" -m pip install --no-build-isolation --no-deps --no-index -e . ||
        { echo "pip could not; building in place" && "$python" setup.py build_ext --inplace; }
}

show() { tail -n "$2" "$logs/gpu-$1.log" | tr '\r' '\n' | tail -n "$2"; }

export EMOKERNEL_CUDA=1 EMOKERNEL_CUDA_ARCHS=$arch
export -f build
export python
stage build 180 bash -c build || show build 30
unset EMOKERNEL_CUDA EMOKERNEL_CUDA_ARCHS

stage backends 60 "$python" -c "
import sys, torch
from emokernel.ops import available
found = available('cuda')
print(torch.__version__, torch.cuda.get_device_name(), found)
sys.exit(any(found[name] is not None for name in ('cuda', 'triton')))
"
show backends 3

# What the benchmarks will have compiled is compiled meanwhile, by several processes.
warm_start=$SECONDS
timeout -k 5 $((200 * patience)) "$python" benchmarks/gpu_ops.py --warm >"$logs/gpu-warm.log" 2>&1 &
warm=$!

cores=$(nproc)
jobs=${EMOKERNEL_GPU_JOBS:-$(at_most $((cores / 2)) 8)}
# Where there is a GPU, running its kernels on the host, in a shim, is no evidence more.
options=(-q -rfE --durations=10 -k "not cuda-on-host and not test_races")
threads=$cores
if ((jobs > 1)) && "$python" -c "import xdist" 2>/dev/null; then
    options+=(-n "$jobs")
    threads=$(at_least 1 $((cores / jobs)))
fi
tests=(tests/ops tests/gpu tests/patch tests/test_steering.py)
limit=$(at_least 30 $(at_most 170 $(($(left) - ops_seconds - decode_seconds - 50))))
stage tests "$limit" env OMP_NUM_THREADS="$threads" "$python" -m pytest "${tests[@]}" "${options[@]}"
show tests 25

sanitizer=
for candidate in compute-sanitizer "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer"; do
    if command -v "$candidate" >/dev/null 2>&1; then
        sanitizer=$candidate
        break
    fi
done

# sanitize TOOL LIMIT: its exit status is the tool's
sanitize() {
    # Without a cache every tensor is an allocation of its own, whose ends memcheck can see.
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout -k 10 $(($2 * patience)) "$sanitizer" --tool "$1" \
        --error-exitcode 99 "$python" tests/gpu/sanitize.py >"$logs/gpu-$1.log" 2>&1
}

if [[ -z $sanitizer ]]; then
    note memcheck - 0 "not run: there is no compute-sanitizer here"
    note racecheck - 0 "not run: there is no compute-sanitizer here"
elif [[ ! -f tests/gpu/sanitize.py ]]; then
    note memcheck 1 0 "tests/gpu/sanitize.py is missing"
else
    limit=$(at_least 20 $(at_most 60 $(($(left) - ops_seconds - decode_seconds - 15))))
    start=$SECONDS
    sanitize memcheck "$limit" &
    memcheck=$!
    sanitize racecheck "$limit" &
    racecheck=$!
    for tool in memcheck racecheck; do
        wait "${!tool}"
        status=$?
        remark=
        if [[ $status == 124 || $status == 137 ]]; then
            remark="ran out of its $limit s"
        elif grep -q "Device not supported\|LibraryNotLoaded" "$logs/gpu-$tool.log"; then
            status=-
            remark="not run: compute-sanitizer does not serve this GPU or its driver"
        else
            remark=$(grep "SUMMARY" "$logs/gpu-$tool.log" | tail -n 1 | tr -d '=' | cut -c1-80)
        fi
        note "$tool" "$status" $((SECONDS - start)) "$remark"
        [[ $status == 0 || $status == - ]] || show "$tool" 15
    done
fi

# The benchmarks have the machine to themselves. What is not compiled by now they compile.
for _ in $(seq $((20 * patience))); do
    kill -0 "$warm" 2>/dev/null || break
    sleep 1
done
kill "$warm" 2>/dev/null
wait "$warm"
status=$?
remark="beside the tests"
if ((status > 128 || status == 124)); then
    status=-
    remark="stopped early: the benchmarks compile the rest"
fi
note warm "$status" $((SECONDS - warm_start)) "$remark"

budget=$(at_least 45 $(($(left) - decode_seconds - 20)))
stage ops $((budget + 30)) "$python" benchmarks/gpu_ops.py --budget "$budget"
budget=$(at_least 30 $(($(left) - 15)))
stage decode $((budget + 25)) "$python" benchmarks/gpu_decode.py --budget "$budget"
show ops 26
show decode 26

if [[ -n ${OUT:-} && ! $OUT -ef $results ]]; then
    cp "$results"/gpu-*.jsonl "$results"/gpu-*.png "$OUT"/ 2>/dev/null
fi
{
    echo "emokernel on $("$python" -c "import torch; print(torch.cuda.get_device_name())")," \
        "$SECONDS s in all"
    printf '%s\n' "${summary[@]}"
} | tee "$logs/gpu-summary.log"
exit $failed
