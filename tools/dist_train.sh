#!/usr/bin/env bash
# tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# GPUS: processes on this node, one per GPU; without a GPU as many CPU processes, joined by gloo.
# Several nodes: the same call on each, with NNODES, NODE_RANK, MASTER_ADDR (and PORT) set.
# After SIGTERM, SIGUSR1 or Ctrl-C: a checkpoint, and exit code 75.
set -euo pipefail

if [ $# -lt 2 ] || [[ ! $2 =~ ^[1-9][0-9]*$ ]]; then
  [ $# -lt 2 ] || echo "GPUS=$2 must be a number" >&2
  sed -n '2,5s/^# //p' "$0" >&2
  exit 2
fi
config=$1 processes=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)

# An activated environment comes first, then the one that `make install` made here.
python=python
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$root/.venv/bin/python" ]; then
  python=$root/.venv/bin/python
fi

# Every process starts as many threads as the machine has cores unless told otherwise.
threads=$(($(nproc) / processes))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
  rendezvous=(--standalone) # any free port
else
  rendezvous=(--nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}"
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}")
fi
exec "$python" "$root/tools/torchrun.py" "${rendezvous[@]}" --nproc_per_node "$processes" \
  "$root/tools/${TOOL:-train.py}" "$config" --launcher pytorch "$@"
