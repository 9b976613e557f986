"""Run a program of this folder, by the path of this file, without importing the whole package.

python bimm_mm/video/__main__.py decoder_process ARGUMENTS
python bimm_mm/video/__main__.py reencode ARGUMENTS
"""

import importlib.util
import sys
from pathlib import Path


def import_room() -> None:
    """Import this folder as a package of the name ``video``."""
    folder = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(
        'video', folder / '__init__.py', submodule_search_locations=[str(folder)]
    )
    sys.modules['video'] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == '__main__':
    del sys.path[0]  # this folder, whose modules are no top-level ones
    import_room()
    importlib.import_module(f'video.{sys.argv[1]}').main(sys.argv[2:])
