"""Package metadata; the requirements are read from `requirements/`.

`pip install .` brings no mmcv: `mmcv` and `mmcv-lite` install the same folder over each other, and
pip cannot build `mmcv` in isolation, because its setup needs the torch it is compiled against.
Install `mmcv-lite<2.2` (enough for pretraining) or `mmcv<2.2` (detection, segmentation) first, or
run `make install`. With `-c requirements/pins.txt` pip takes exactly the versions that were tried.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """Requirement lines of `requirements/<name>.txt`, without comments and blank lines."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


def version() -> str:
    """The version string in `bimm_mm/version.py`, read without importing the package."""
    text = (ROOT / 'bimm_mm' / 'version.py').read_text()
    return re.search(r"__version__ = '(.+)'", text).group(1)


class BuildWithRecipes(build_py):
    """Put recipes and tools into the wheel, where mmengine and mim look for them: bimm_mm/.mim."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # the repository's own are found
        folder = Path(self.build_lib) / 'bimm_mm' / '.mim'
        shutil.rmtree(folder, ignore_errors=True)
        ignore = shutil.ignore_patterns('__pycache__', 'install.sh', 'test_*.sh', 'mmcv_setup')
        for name in ('configs', 'tools'):
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        methods = sorted(path.name for path in (ROOT / 'configs').iterdir() if path.is_dir())
        methods = [name for name in methods if name not in ('_base_', 'studies')]
        for method in methods:
            (folder / 'configs' / method / 'metafile.yml').write_text(metafile(method))
        index = ''.join(f'- configs/{method}/metafile.yml\n' for method in methods)
        (folder / 'model-index.yml').write_text(f'Import:\n{index}')


def metafile(method: str) -> str:
    """The recipes of a method in the form that ``mim search`` reads."""
    files = sorted((ROOT / 'configs' / method).rglob('*.py'))
    files = [path.relative_to(ROOT) for path in files if '_base_' not in path.parts]
    models = ''.join(
        f'- Name: {path.stem}\n  Config: {path.as_posix()}\n  In Collection: {method}\n'
        for path in files
    )
    readme = f'  README: configs/{method}/README.md\n'
    return f'Collections:\n- Name: {method}\n{readme}Models:\n{models}'


libraries = ('video', 'image', 'detection', 'segmentation', 'sam', 'export', 'tokenizer', 'text')
extras = {name: requirements(name) for name in (*libraries, 'dev')}
extras['all'] = sorted({line for name in libraries for line in extras[name]})

setup(
    name='bimm_mm',
    version=version(),
    description='Brain Inspired Masked Modeling (BIMM) video pretraining for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='masked modeling, self-supervised learning, video, MAE, VideoMAE, OpenMMLab',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in range(10, 14)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    python_requires='>=3.10',
    packages=find_packages(include=['bimm_mm', 'bimm_mm.*']),
    package_data={'bimm_mm': ['py.typed']},
    cmdclass={'build_py': BuildWithRecipes},
    entry_points={'console_scripts': ['bimm = bimm_mm.cli.main:main']},
    install_requires=requirements('core'),
    extras_require=extras,
)
