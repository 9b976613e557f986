"""Print a config as the Runner gets it: bases merged, overrides applied."""

import argparse
import sys

from bimm_mm.cli.arguments import add_config_options
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    add_config_options(parser, 'train_dataloader.batch_size=4')
    args = parser.parse_args()
    try:
        cfg = merge_config(args.config, args.cfg_options)
    except ConfigError as error:
        sys.exit(str(error))
    print(cfg.pretty_text)


if __name__ == '__main__':
    main()
