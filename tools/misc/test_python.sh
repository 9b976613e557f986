#!/usr/bin/env bash
# Tests other interpreters than that of $VENV: each in an environment of its own, $VENV-python-X.Y, which stays.
#   test_python.sh [PYTHON ...]     default: those of python3.10 to python3.13 that are there
# With mmcv-lite, so that nothing is compiled, and the tests that need no more. COMPILE=1 compiles mmcv and runs all
# tests. NUMPY=2.2.6 takes another NumPy than the pins; TESTS="tests/models ..." other tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=${VENV:-.venv}
pythons=("$@")
if ((!$#)); then
  for name in python3.10 python3.11 python3.12 python3.13; do
    if "$name" -c '' 2>/dev/null; then pythons+=("$name"); fi
  done
fi
((${#pythons[@]})) || { echo 'test_python: there is none of python3.10 to python3.13' >&2; exit 1; }
if [ -n "${COMPILE:-}" ]; then what=all tests=${TESTS:-tests}; else
  what=core
  tests=${TESTS:-tests/test_compat.py tests/test_package.py tests/config tests/configs/test_own.py tests/datasets
    tests/engine/test_seeding.py tests/engine/test_history.py tests/evaluation tests/models/backbones tests/models/heads
    tests/models/losses tests/models/masking tests/models/necks tests/models/targets tests/models/test_conversion.py
    tests/models/test_hub.py tests/utils tests/video/test_contract.py}
fi

failed=()
for python in "${pythons[@]}"; do
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  other=$venv-python-$version
  PYTHON=$python VENV=$other bash tools/misc/install.sh "$what"
  pip=("$other/bin/python" -m pip --disable-pip-version-check install -q)
  if [ "$what" = core ]; then
    lists=()
    for name in video image export dev; do lists+=(-r "requirements/$name.txt"); done
    "${pip[@]}" -c requirements/pins.txt mmcv-lite "${lists[@]}"
  fi
  if [ -n "${NUMPY:-}" ]; then "${pip[@]}" "numpy==$NUMPY"; fi
  "$other/bin/python" - <<'PY'
import platform
from importlib.metadata import version

names = 'torch numpy opencv-python mmengine mmaction2 transformers'.split()
print('Python', platform.python_version(), *(f'{name} {version(name)}' for name in names), sep=', ')
PY
  # shellcheck disable=SC2086  # a list
  PATH=$(cd "$other/bin" && pwd):$PATH "$other/bin/python" -m pytest -p no:cacheprovider $tests || failed+=("$version")
done
if ((${#failed[@]})); then echo "failed with Python ${failed[*]}" >&2; exit 1; fi
