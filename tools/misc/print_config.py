"""Print a config as the Runner gets it: bases merged, overrides applied."""

import argparse
import sys
from pathlib import Path

from mmengine.config import Config, DictAction

from bimm_mm.engine.config_check import ConfigError, check_options, find_config


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE'
    )
    args = parser.parse_args()
    try:
        cfg = Config.fromfile(find_config(args.config, Path(__file__).parents[2] / 'configs'))
        check_options(cfg, args.cfg_options)
    except ConfigError as error:
        sys.exit(str(error))
    cfg.merge_from_dict(args.cfg_options)
    print(cfg.pretty_text)


if __name__ == '__main__':
    main()
