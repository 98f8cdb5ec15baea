#!/usr/bin/env bash
# Train in several processes: dist_train.sh CONFIG PROCESSES [arguments of train.py]
set -euo pipefail
CONFIG=$1
PROCESSES=$2
PORT=${PORT:-29500}
torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$PORT" \
    --nproc_per_node="$PROCESSES" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "${@:3}"
