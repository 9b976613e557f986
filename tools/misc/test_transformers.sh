#!/usr/bin/env bash
# Tests import, export, SAM 2.1, captions and tokenizers against other releases of transformers than the pinned one: each in an environment
# of its own, which takes everything else from $VENV (default .venv).
#   test_transformers.sh [VERSION ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=$(cd "${VENV:-.venv}" && pwd)
packages=$("$venv/bin/python" -c 'import sys; print("\n".join(p for p in sys.path if "-packages" in p))')
for version in "${@:-5.0.0 5.17.0 5.24.0}"; do
  for release in $version; do
    other=$venv-transformers-$release
    if [ ! -f "$other/.installed" ]; then
      "$venv/bin/python" -m venv --clear "$other"
      "$other/bin/python" -m pip --disable-pip-version-check install -q "transformers==$release"
      # after what is installed here, so that this transformers comes first
      echo "$packages" >"$("$other/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_other.pth"
      touch "$other/.installed"
    fi
    printf 'transformers %s: ' "$("$other/bin/python" -c 'import transformers; print(transformers.__version__)')"
    PYTHONPATH=$PWD "$other/bin/python" -m pytest -p no:cacheprovider \
      tests/models/test_conversion.py tests/models/test_conversion_export.py tests/contours/test_segmenters.py \
      tests/captions tests/models/guides/test_clip.py tests/models/masking/test_text.py tests/models/selfsup/test_tgm.py \
      tests/models/tokenizers tests/tools/test_browse_masks.py
  done
done
