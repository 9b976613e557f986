#!/usr/bin/env bash
# tools/dist_train.sh CONFIG GPUS [--max-restarts N] [arguments of tools/train.py]
# GPUS: processes on this node, one per GPU; without a GPU as many CPU processes, joined by gloo.
# Several nodes: the same call on each, with NNODES, NODE_RANK, MASTER_ADDR (and PORT) set.
# --max-restarts N: after a failure, go on from the last checkpoint, N times at most; with
# MIN_NODES set, on as few nodes as that where others do not come back (and NODE_RANK is not used).
# After SIGTERM, SIGUSR1 or Ctrl-C: a checkpoint, and exit code 75.
set -euo pipefail

source "$(dirname "$0")/misc/usage.sh"
tell_missing 'CONFIG GPUS' "$@"
if [[ ! $2 =~ ^[1-9][0-9]*$ ]]; then
  echo "GPUS=$2 must be a number" >&2
  tell_usage
fi
config=$1 processes=$2
shift 2
restarts=0 arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --max-restarts) restarts=${2:-nothing} && [ $# -lt 2 ] || shift ;;
    --max-restarts=*) restarts=${1#*=} ;;
    *) arguments+=("$1") ;;
  esac
  shift
done
if [[ ! $restarts =~ ^[0-9]+$ ]]; then
  echo "--max-restarts $restarts must be a number" >&2
  exit 2
fi
# what is started again goes on from the checkpoint that is there; without one it begins
[ "$restarts" = 0 ] || [[ " ${arguments[*]} " == *" --resume"* ]] || arguments+=(--resume)
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
elif [ "$restarts" != 0 ] || [ -n "${MIN_NODES:-}" ]; then
  # nodes find each other, also again after a failure; the first one serves as the meeting point
  rendezvous=(--nnodes "${MIN_NODES:-$NNODES}:$NNODES" --rdzv_backend c10d
    --rdzv_id "${RUN_ID:-$(basename "$config" .py)}"
    --rdzv_endpoint "${MASTER_ADDR:-127.0.0.1}:${PORT:-29500}")
else
  rendezvous=(--nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}"
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}")
fi
exec "$python" "$root/tools/torchrun.py" "${rendezvous[@]}" --nproc_per_node "$processes" \
  --max_restarts "$restarts" \
  "$root/tools/${TOOL:-train.py}" "$config" --launcher pytorch "${arguments[@]}"
