#!/usr/bin/env bash
# tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
# GPUS: as tools/dist_train.sh, of which this is the other half.
set -euo pipefail

if [ $# -lt 3 ] || [[ ! $3 =~ ^[1-9][0-9]*$ ]]; then
  if [ $# -lt 3 ]; then echo 'CONFIG, CHECKPOINT or GPUS is missing' >&2
  else echo "GPUS=$3 must be a number" >&2; fi
  sed -n '2,3s/^# //p' "$0" >&2
  exit 2
fi
config=$1 checkpoint=$2 processes=$3
shift 3
TOOL=test.py exec bash "$(dirname "$0")/dist_train.sh" \
  "$config" "$processes" "$checkpoint" "$@"
