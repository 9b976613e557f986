#!/usr/bin/env bash
# Creates $VENV (default .venv) with the pinned versions and the package itself, editable.
#   install.sh core   what the demo and pretraining need: torch, mmengine, mmcv-lite (minutes)
#   install.sh        everything: mmcv compiled in place of mmcv-lite, OpenMMLab's libraries, test tools
# In either order, and again at any time, also after an interruption: what is there already is kept.
# PYTHON chooses the interpreter (3.10 to 3.13).
set -euo pipefail
what=${1:-all}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=${VENV:-.venv}
pins=requirements/pins.txt

fail() { printf '\ninstall: %s\n' "$@" >&2; exit 1; }

# clock MESSAGE COMMAND...: runs the command with its output in the log, and says every 15 s that it goes on.
clock() {
  local message=$1 start=$SECONDS pid status=0 next=15 step
  shift
  printf '\n==> %s: %s\n' "$message" "$*" >>"$log"
  printf '%s ...\n' "$message"
  "$@" >>"$log" 2>&1 &
  pid=$!
  trap 'kill $(children $pid) 2>/dev/null; exit 130' INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    if ((SECONDS - start >= next)); then
      step=$(tail -n 200 "$log" | grep -Eo '\[[0-9]+/[0-9]+\]' | tail -n 1 || true)
      printf '  %d:%02d min%s\n' $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60)) "${step:+ $step}"
      next=$((SECONDS - start + 15))
    fi
  done
  wait "$pid" || status=$?
  trap - INT TERM
  if ((status)); then
    tail -n 40 "$log" >&2
    fail "\"$message\" failed; the last lines are above, the whole output is in $log"
  fi
}

# children PID: the process and all that it started, deepest first.
children() {
  local child
  for child in $(ps -o pid= --ppid "$1" 2>/dev/null || true); do children "$child"; done
  echo "$1"
}

fits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

# 1. The machine: everything that would stop the installation later is checked before it starts.
if [ -n "${PYTHON:-}" ]; then
  command -v "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON is not a program"
  fits "$PYTHON" || fail "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1); Python 3.10 to 3.13 is needed"
  python=$PYTHON
else
  python=
  for name in python3 python3.13 python3.12 python3.11 python3.10; do
    if command -v "$name" >/dev/null && fits "$name"; then python=$name; break; fi
  done
  [ -n "$python" ] || fail "no Python 3.10 to 3.13 found (python3 is: $(python3 --version 2>/dev/null || echo missing)); \
install one, or name it: make PYTHON=/path/to/python3.11 ..."
fi
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
  fail "$python has no venv module; on Debian or Ubuntu: apt install python3-venv"

mmcv_works() { "$venv/bin/python" -c 'import mmcv._ext' >/dev/null 2>&1; }
mmcv_imports() { "$venv/bin/python" -c 'import mmcv' >/dev/null 2>&1; }

if [ "$what" = all ] && ! mmcv_works; then
  compiler=${CXX:-c++}
  command -v "${compiler%% *}" >/dev/null ||
    fail "no C++ compiler ($compiler), which mmcv is compiled with; on Debian or Ubuntu: apt install g++"
  header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
  [ -f "$header" ] || fail "$header is missing, which mmcv is compiled with; on Debian or Ubuntu: apt install python3-dev"
fi

# 2. The environment.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 || ! fits "$venv/bin/python"; then
  printf 'creating %s with %s\n' "$venv" "$("$python" --version)"
  "$python" -m venv --clear "$venv"
fi
log=$venv/install.log
: >"$log"
pip=("$venv/bin/python" -m pip --disable-pip-version-check install -c "$pins")
if [ "$what" = core ]; then
  clock 'installing torch (some GB)' "${pip[@]}" -r requirements/core.txt
  mmcv_imports || clock 'installing mmcv-lite, which needs no compiler' "${pip[@]}" mmcv-lite
  clock 'installing bimm_mm' "${pip[@]}" --no-deps -e .
  printf '%s is ready for the demo and for pretraining\n' "$venv"
  exit
fi
# core.txt too: mmcv cannot be imported, so not be checked below, without mmengine.
clock 'installing torch and what mmcv is compiled with (some GB)' \
  "${pip[@]}" -r requirements/build.txt -r requirements/core.txt

# 3. mmcv. Its wheel belongs to the torch it was compiled against, which pip's cache does not know.
# It takes the place of mmcv-lite, which has the same folder, when it is compiled and not before.
compile() {
  rm -rf "$venv/wheels"
  clock "$1" env PYTHONPATH="$PWD/tools/misc/mmcv_setup" "$venv/bin/python" -m pip --disable-pip-version-check wheel -v -c "$pins" \
    --no-build-isolation --no-deps -w "$venv/wheels" mmcv
  "$venv/bin/python" -m pip uninstall -y mmcv-lite >>"$log" 2>&1
  "${pip[@]}" --force-reinstall --no-deps "$venv"/wheels/mmcv-*.whl >>"$log" 2>&1
  rm -rf "$venv/wheels"
}

if ! mmcv_works; then
  export MMCV_WITH_OPS=1
  # With a GPU but no nvcc of torch's CUDA version, mmcv's setup would stop; its ops are then built for the CPU,
  # which is all that the tests and the demo need.
  if ! "$venv/bin/python" - 2>>"$log" <<'PY'
import re, subprocess, sys
import torch
from torch.utils.cpp_extension import CUDA_HOME

def nvcc_major():
    try:
        text = subprocess.run([f'{CUDA_HOME}/bin/nvcc', '--version'], capture_output=True, text=True).stdout
        return re.search(r'release (\d+)', text).group(1)
    except (OSError, AttributeError):
        return None

sys.exit(torch.cuda.is_available() and nvcc_major() != torch.version.cuda.split('.')[0])
PY
  then
    echo "no nvcc of torch's CUDA version: mmcv's ops are compiled for the CPU only"
    export CUDA_VISIBLE_DEVICES=''
  fi
  compile 'compiling mmcv (once, unless pip has it already; about 9 minutes on 2 cores, less with more)'
  if ! mmcv_works; then
    echo 'the mmcv wheel in the cache of pip belongs to another torch'
    "$venv/bin/python" -m pip cache remove mmcv >>"$log" 2>&1 || true
    compile 'compiling mmcv again'
  fi
  mmcv_works || fail "mmcv was compiled, but importing it says: $("$venv/bin/python" -c 'import mmcv._ext' 2>&1 | tail -n 1)"
fi

# 4. The rest, and the package.
lists=()
for name in core video image detection segmentation sam export tokenizer dev; do lists+=(-r "requirements/$name.txt"); done
clock "installing OpenMMLab's libraries and the test tools" "${pip[@]}" mmcv "${lists[@]}"
clock 'installing bimm_mm' "${pip[@]}" --no-deps --no-build-isolation -e .
if "$venv/bin/python" - 2>>"$log" <<'PY'
import sys
import torch
from mmcv.ops import get_compiling_cuda_version

sys.exit(not torch.cuda.is_available() or get_compiling_cuda_version() != 'not available')
PY
then
  echo "mmcv's operators are compiled for the CPU only. Detection and AVA on this GPU need, with nvcc of torch's CUDA:"
  echo "  $venv/bin/pip uninstall -y mmcv; $venv/bin/pip cache remove mmcv; rm $venv/.installed; FORCE_CUDA=1 make install"
fi
printf '%s is ready: source %s/bin/activate\n' "$venv" "$venv"
