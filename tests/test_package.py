"""The core is light."""

import subprocess
import sys

OPTIONAL = (
    'mmaction mmpretrain mmdet mmseg mmcv.ops decord av segment_anything transformers torchvision '
    'matplotlib.figure sklearn'
)


def test_importing_the_package_imports_no_optional_package():
    code = f"""
import sys, mmengine.runner
before = set(sys.modules)  # mmengine takes transformers' Adafactor where there is one
import bimm_mm
print([m for m in {OPTIONAL.split()} if m in set(sys.modules) - before])
"""
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, timeout=300
    )
    assert result.stdout.strip() == '[]', result.stdout + result.stderr
