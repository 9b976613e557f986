"""What a run shows on the screen; everything else is in its log file."""

import logging
import re
import warnings

from mmengine.logging import MMLogger

from .log_processor import LogLine

# Records that the file keeps and the screen leaves out, by how they begin.
FOR_THE_FILE = (
    '\n------------------------------------------------------------\nSystem environment:',
    'Config:\n',
    'Hooks will be executed in the following order:',
    'Distributed training is not used, all SyncBatchNorm (SyncBN) layers',
    'Exp name: ',
    'lr x ',  # the groups of parameters
    'Load checkpoint from ',
    'Checkpoints will be saved to ',
    'Saving checkpoint at ',
    'The best checkpoint with ',
    'The previous best checkpoint ',
    'The prefix is not set in metric class ',
    '"FileClient" will be deprecated in future.',
    '"HardDiskBackend" is the alias of "LocalBackend"',
)
# And by how they end.
ENDS_FOR_THE_FILE = ('has no metainfo. ``dataset_meta`` in visualizer will be None.',)

# Warnings of other packages that nobody who trains can act on: how they begin, as patterns.
NOT_ACTIONABLE = (
    # torch: mmengine's loaders ask for pinned memory and workers as recipes for GPUs say
    "'pin_memory' argument is set as true but no accelerator is found",
    r'This DataLoader will create \d+ worker processes in total',
    # timm, which mmaction2 and transformers import by an old name
    r'Importing from timm\.models\.\w+ is deprecated',
    # mmdet and mmpretrain without mmcv's compiled operators
    r'Fail to import ``MultiScaleDeformableAttention``',
    # mmengine: what dist_train.sh sets itself
    r'Setting (OMP|MKL)_NUM_THREADS environment variable',
    # setuptools < 81, which upstream needs
    'pkg_resources is deprecated as an API',
    # torch: of its own exported programs
    r'`isinstance\(treespec, LeafSpec\)` is deprecated',
    # torch: state dicts by FSDP's old names, as mmengine asks for them
    r'FSDP\.state_dict_type\(\) and FSDP\.set_state_dict_type\(\) are being deprecated',
)


def silence_upstream() -> None:
    """Ignore the warnings of other packages that nobody who trains can act on."""
    for pattern in NOT_ACTIONABLE:
        warnings.filterwarnings('ignore', message=r'\s*' + pattern)


def calm(logger: MMLogger) -> None:
    """Keep what nobody reads while training off the screen, and show lines in short.

    The log file has all of it. With ``log_level='DEBUG'`` the screen has, too.
    """
    for handler in logger.handlers:
        is_screen = type(handler) is logging.StreamHandler
        if is_screen and handler.level > logging.DEBUG:
            handler.addFilter(_worth_showing)
            handler.setFormatter(_ShortFormatter(datefmt='%H:%M:%S'))


class CalmScreen:
    """For a Runner: its screen shows what counts, see :func:`calm`."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """The Runner's logger."""
        logger = super().build_logger(*args, **kwargs)
        calm(logger)
        return logger


def _worth_showing(record: logging.LogRecord) -> bool:
    text = str(record.msg)
    return not (text.startswith(FOR_THE_FILE) or text.endswith(ENDS_FOR_THE_FILE))


class _ShortFormatter(logging.Formatter):
    """Time and message; the level only where it is a warning or an error."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.msg, LogLine):
            record = logging.makeLogRecord(vars(record) | dict(msg=record.msg.short))
        level = '' if record.levelno <= logging.INFO else f'{record.levelname} '
        text = f'{self.formatTime(record, self.datefmt)} {level}{record.getMessage()}'
        return re.sub(r'\n(?=.)', '\n         ', text)  # under the message
