#!/usr/bin/env bash
# tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
# GPUS: as tools/dist_train.sh, of which this is the other half.
set -euo pipefail

source "$(dirname "$0")/misc/usage.sh"
tell_missing 'CONFIG CHECKPOINT GPUS' "$@"
if [[ ! $3 =~ ^[1-9][0-9]*$ ]]; then
  echo "GPUS=$3 must be a number" >&2
  tell_usage
fi
config=$1 checkpoint=$2 processes=$3
shift 3
TOOL=test.py exec bash "$(dirname "$0")/dist_train.sh" \
  "$config" "$processes" "$checkpoint" "$@"
