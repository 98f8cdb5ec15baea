#!/usr/bin/env bash
# On a machine with a GPU: run the CUDA tests, then measure, all within a time limit.
#
#     bash tools/dev/try_gpu.sh [--device cuda] [--seconds 600] [--out work_dirs/gpu] [--quick]
#
# The most important comes first; what doesn't fit into the time is left out. summary.md in the
# folder is the table to send. PYTHON names another interpreter. --device cpu tries out the script.
set -uo pipefail
device=cuda limit=600 out=work_dirs/gpu quick=
while [ $# -gt 0 ]; do
    case $1 in
        --device) device=$2; shift ;;
        --seconds) limit=$2; shift ;;
        --out) out=$2; shift ;;
        --quick) quick=1 ;;
        *) echo "error: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
python=${PYTHON:-python}
mkdir -p "$out"
out=$(realpath "$out")
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" MMTAGCLIP_TEST_DEVICE=$device
failed=

left() {  # seconds of the limit, less a reserve for what follows
    echo $((limit - SECONDS - $1))
}

step() {  # NAME SECONDS COMMAND...: output goes to NAME.txt; interrupted after the seconds
    local name=$1 seconds=$2
    shift 2
    if [ "$seconds" -lt 1 ]; then
        echo "$name: left out, no time left" | tee "$out/$name.txt"
        return
    fi
    timeout --signal=INT --kill-after=5 "$seconds" "$@" > "$out/$name.txt" 2>&1
    local status=$?
    echo "$name: exit status $status after $SECONDS s in all"
    if [ $status -ne 0 ]; then
        failed="$failed $name"
        tail -n 40 "$out/$name.txt"
    fi
}

step tests "$(left $((limit * 7 / 10)))" "$python" -m pytest -q -rP -p no:cacheprovider \
    tests/test_cuda.py ${quick:+-k 'LastBlock and (Ordinary or SelfOnly)'}
step throughput "$(left 3)" "$python" tools/analysis_tools/throughput.py --device "$device" \
    --out "$out" --compiled --seconds "$((limit * 7 / 10 - SECONDS))" ${quick:+--quick}
step benchmark "$(left 3)" "$python" tools/analysis_tools/benchmark.py --device "$device" \
    --out "$out/benchmark.json" ${quick:+--images 1 --repeats 1 --parts dmar}
step cost "$(left 3)" "$python" tools/analysis_tools/plot_cost.py --device "$device" \
    --out "$out/cost.json" --figure "$out/cost.png" ${quick:+--max-side 224 --measure side}

{
    cat "$out/throughput.md" 2> /dev/null
    printf '\nTests: %s\n' "$(grep -E '^[0-9]+ (passed|failed|skipped)|no tests ran' "$out/tests.txt")"
    printf '\n```\n'
    grep -E ' target [<>]= ' "$out/benchmark.txt"
    printf '```\n'
} > "$out/summary.md"
cat "$out/summary.md"
[ -z "$failed" ] || { echo "error: not finished:$failed" >&2; exit 1; }
