#!/usr/bin/env bash
# tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]
# The environment: as tools/slurm_train.sh, of which this is the other half.
set -euo pipefail

source "$(dirname "$0")/misc/usage.sh"
tell_missing 'PARTITION JOB_NAME CONFIG CHECKPOINT' "$@"
partition=$1 job=$2 config=$3 checkpoint=$4
shift 4
TOOL=test.py exec bash "$(dirname "$0")/slurm_train.sh" \
  "$partition" "$job" "$config" "$checkpoint" "$@"
