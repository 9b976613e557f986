"""``python -m bimm_mm`` is the command ``bimm``."""

from .cli.main import main

if __name__ == '__main__':
    main()
