"""Package metadata; the requirements are read from `requirements/`.

`pip install .` brings no mmcv: `mmcv` and `mmcv-lite` install the same folder over each other, and
pip cannot build `mmcv` in isolation, because its setup needs the torch it is compiled against.
Install `mmcv-lite` (enough for pretraining) or `mmcv` (detection, segmentation) first, or run
`make install`. With `-c requirements/pins.txt` pip takes exactly the versions that were tried.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """Requirement lines of `requirements/<name>.txt`, without comments and blank lines."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


def version() -> str:
    """The version string in `bimm_mm/version.py`, read without importing the package."""
    text = (ROOT / 'bimm_mm' / 'version.py').read_text()
    return re.search(r"__version__ = '(.+)'", text).group(1)


libraries = ('video', 'image', 'detection', 'segmentation', 'sam', 'export')
extras = {name: requirements(name) for name in (*libraries, 'dev')}
extras['all'] = sorted({line for name in libraries for line in extras[name]})

setup(
    name='bimm_mm',
    version=version(),
    description='Brain Inspired Masked Modeling (BIMM) video pretraining for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10,<3.13',
    packages=find_packages(include=['bimm_mm', 'bimm_mm.*']),
    install_requires=requirements('core'),
    extras_require=extras,
)
