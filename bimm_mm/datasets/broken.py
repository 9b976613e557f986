"""A broken file ends no training: its sample is replaced, and says so. All of it is our choice."""

import os
import random
import re

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from ..utils.commands import command
from ..utils.files import printable
from ..video.parts import file_of

ATTEMPTS = 10  # samples in a row; so many broken ones are no accident
KEY = 'replaced'  # in the metainfo of a data sample
PATHS = ('filename', 'img_path', 'frame_dir')  # of a video, an image, a folder of frames


class BrokenSampleError(RuntimeError):
    """A sample cannot be made, or several in a row; the message names the files and the reasons.

    Attributes:
        path: The file.
        reason: What is wrong with it.
    """

    path = reason = ''


class ReplaceBroken:
    """For mmengine's datasets: training replaces a broken sample, evaluation stops at it.

    To be named before the dataset in a list of base classes. A sample is broken if the pipeline
    raises an exception on it or returns None. In training another one is drawn from NumPy's global
    generator, from which a sample's own randomness comes as well: with the same seeds, the same one
    replaces it. Its ``data_samples.replaced`` lists for which samples it stands, as
    ``[(path, reason), ...]``; :class:`bimm_mm.engine.BrokenSamplesHook` collects that.

    With ``test_mode=True`` nothing is replaced, since a metric would count one sample twice and
    leave out another. What is missing can be asked for beforehand.
    """

    how_to_leave_out = (
        f'{command("verify", "misc/verify_dataset.py")} --ann-file LIST --out NEW writes a list '
        'without them'
    )

    def missing(self) -> list[str]:
        """Tell which samples have no file, without opening any: one line each.

        Files of remote storages are not looked for.
        """
        if not self._fully_initialized:
            self.full_init()
        paths = (file_name_of(self.get_data_info(index)) for index in range(len(self)))
        return [printable(path) for path in paths if not _is_there(path)]

    def __getitem__(self, idx: int) -> dict | list[dict]:
        """Sample ``idx``, or the one that replaces it.

        Raises:
            BrokenSampleError: Ten samples in a row are broken, or all there are; in evaluation,
                this one is.
            ImportError: A package that the pipeline uses is missing.
            TypeError: What the pipeline makes has no ``data_samples``.
        """
        if not self._fully_initialized:
            self.full_init()
        if self.test_mode:
            return self._make(idx)
        broken = {}
        while True:
            state = _random_state()
            try:
                sample = self._make(idx)
                break
            except BrokenSampleError as error:
                broken[idx] = (error.path, error.reason)
                if len(broken) == min(ATTEMPTS, len(self)):
                    raise BrokenSampleError(_too_many(broken, len(self))) from error
            _set_random_state(state)  # what is drawn next must not depend on where it failed
            while idx in broken:
                idx = np.random.randint(len(self))
        if broken:
            _mark(sample, list(broken.values()))
        return sample

    def _make(self, idx: int) -> dict | list[dict]:
        """What the pipeline makes of sample ``idx``; if it fails, the error names the file."""
        path = _path_of(self.get_data_info(idx))
        try:
            sample = self.prepare_data(idx)
            if sample is None:
                raise ValueError('the pipeline returns None')
            return sample
        except ImportError:
            raise
        except Exception as failure:
            reason = _reason_of(failure)
            advice = (
                '. In evaluation, no other sample takes its place: mend the file or take it out of '
                f'the list ({command("verify", "misc/verify_dataset.py")} finds all of them)'
            )
            error = BrokenSampleError(
                f'the pipeline failed on {path!r}: {reason}{advice if self.test_mode else ""}'
            )
            error.path, error.reason = path, reason
            raise error from failure


def file_name_of(info: dict) -> str:
    """Which file or folder of frames a sample is made of."""
    return next(info[key] for key in PATHS if key in info)


def _is_there(path: str) -> bool:
    return '://' in path or os.path.exists(file_of(path))


def _path_of(info: dict) -> str:
    """The name of a sample's file for messages, with the time in it where there are several."""
    path = printable(file_name_of(info))
    return f'{path} at {info["timestamp"]} s' if 'timestamp' in info else path


def _reason_of(error: Exception) -> str:
    """An exception in one line, the same one whenever it happens."""
    text = (getattr(error, 'strerror', None) or str(error)).strip().partition('\n')[0][:300]
    text = re.sub(r' <[^>]* at 0x\w+>', '', text)
    own = type(error).__module__.startswith('bimm_mm.') or isinstance(error, OSError)
    return text if own and text else f'{type(error).__name__}: {text}'


def _too_many(broken: dict[int, tuple[str, str]], total: int) -> str:
    """The message of an error that ends a run."""
    what = f'All {total} samples' if len(broken) == total else f'{len(broken)} samples in a row'
    listed = ''.join(f'\n  {path}: {reason}' for path, reason in broken.values())
    return (
        f'{what} are broken. The reason may be a lost mount, contours that do not fit, or a '
        f'mistake in the pipeline, rather than the files:{listed}'
    )


def _mark(sample: dict | list[dict], broken: list[tuple[str, str]]) -> None:
    """Let a sample, or the first of several made of one file, tell for which it stands."""
    first = sample[0] if isinstance(sample, list) else sample
    element = first.get('data_samples')
    if not isinstance(element, BaseDataElement):
        raise TypeError(
            f'{broken[0][0]!r} is broken ({broken[0][1]}), and the sample that replaces it cannot '
            'say so: the pipeline must end in PackActionInputs or PackInputs'
        )
    element.set_metainfo({KEY: broken})


def _random_state() -> tuple:
    """Of the generators that transforms draw from."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_random_state(state: tuple) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])
