#!/usr/bin/env bash
# tools/slurm_train.sh PARTITION JOB_NAME CONFIG [--max-restarts N] [arguments of tools/train.py]
# GPUS (8), GPUS_PER_NODE (8 or GPUS), CPUS_PER_TASK (8) and SRUN_ARGS are taken from the environment.
# --max-restarts N: after a failure, go on from the last checkpoint, N times at most.
set -euo pipefail

source "$(dirname "$0")/misc/usage.sh"
tell_missing 'PARTITION JOB_NAME CONFIG' "$@"
partition=$1 job=$2 config=$3
shift 3
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
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
root=$(cd "$(dirname "$0")/.." && pwd)
python=python
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$root/.venv/bin/python" ]; then
  python=$root/.venv/bin/python
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
export MASTER_PORT=${MASTER_PORT:-$((20000 + RANDOM % 20000))}

# shellcheck disable=SC2086  # SRUN_ARGS is a list of words
run=(srun --partition "$partition" --job-name "$job"
  --ntasks "$gpus" --ntasks-per-node "$per_node" --gres "gpu:$per_node"
  --cpus-per-task "${CPUS_PER_TASK:-8}" --kill-on-bad-exit=1 ${SRUN_ARGS:-}
  "$python" -u "$root/tools/${TOOL:-train.py}" "$config" --launcher slurm "${arguments[@]}")
[ "$restarts" != 0 ] || exec "${run[@]}"

stopped=
for signal in TERM USR1 INT; do
  # shellcheck disable=SC2064  # the name of now
  trap "stopped=1; kill -$signal \$child" "$signal"
done
while :; do
  "${run[@]}" &
  child=$! code=0
  wait "$child" || code=$?
  while kill -0 "$child" 2>/dev/null; do # a signal has ended the waiting
    code=0
    wait "$child" || code=$?
  done
  # 75: told to stop; 2: a mistake in the command line
  case $code in 0 | 2 | 75) exit "$code" ;; esac
  [ -z "$stopped" ] && [ "$restarts" -gt 0 ] || exit "$code"
  echo "Failed ($code); restarts left: $restarts" >&2
  restarts=$((restarts - 1))
done
