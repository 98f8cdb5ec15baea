#!/usr/bin/env bash
# Evaluate in several processes: dist_test.sh CONFIG PROCESSES [arguments of test.py]
# On a machine without GPUs each process gets the threads that it would have alone, since the last
# digits of the scores depend on their number; set OMP_NUM_THREADS for fewer.
set -euo pipefail
CONFIG=$1
PROCESSES=$2
PORT=${PORT:-29500}
THREADS='import torch; print(1 if torch.cuda.is_available() else torch.get_num_threads())'
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(python -c "$THREADS")}
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}  # more threads than cores must not spin
torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$PORT" \
    --nproc_per_node="$PROCESSES" \
    "$(dirname "$0")/test.py" "$CONFIG" --launcher pytorch "${@:3}"
