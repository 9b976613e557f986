"""Let logging cost the same in every iteration, and wait for the device only to show values."""

from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from ..history import KEPT, LoggedScalars


@HOOKS.register_module()
class ShortHistoryHook(Hook):
    """Keep the last 1,000 values of each logged scalar, and tallies of all.

    mmengine 0.10.7 copies the whole history of each scalar in each iteration: after a million of
    them 30 ms and more, and hundreds of megabytes in each checkpoint. With this hook an iteration
    costs the same after a million others. The log's smoothing windows, ``'epoch'`` and ``'global'``
    give what they gave; a window of more values, in ``log_processor`` or as the ``window`` of a
    hook, is kept whole.

    Losses, the norm of clipped gradients and other scalars that are on an accelerator stay there
    until somebody reads the log, as LoggerHook at its interval; mmengine waits for the device for
    each of them in each iteration.

    Args:
        leave_on: Kinds of device where scalars wait to be read.
    """

    def __init__(self, leave_on: tuple[str, ...] = ('cuda', 'npu', 'xpu', 'mlu', 'musa')) -> None:
        self.leave_on = tuple(leave_on)

    def before_run(self, runner: Runner) -> None:
        """Take the place of the message hub's own store."""
        hub = runner.message_hub
        if not isinstance(hub._log_scalars, LoggedScalars):
            hub._log_scalars = LoggedScalars(hub._log_scalars, kept=_longest_window(runner))
        self._scalars = hub._log_scalars
        hub.update_scalar = self._updater(hub)

    def before_train(self, runner: Runner) -> None:
        """Let the norm of clipped gradients stay on the device, too."""
        wrapper, hub = runner.optim_wrapper, runner.message_hub
        clip = getattr(wrapper, 'clip_func', None)
        if clip is None or hasattr(clip, 'logs_by_itself'):
            return

        def clip_and_log(*args, **kwargs) -> None:
            norm = clip(*args, **kwargs)
            if norm is not None:  # else mmengine takes it for a number
                hub.update_scalar(f'train/{wrapper.grad_name}', norm)

        clip_and_log.logs_by_itself = True
        wrapper.clip_func = clip_and_log

    def before_train_epoch(self, runner: Runner) -> None:
        """Begin to tally the epoch."""
        self._scalars.begin_epoch('train', runner.epoch)

    def before_val_epoch(self, runner: Runner) -> None:
        """Begin to tally the validation."""
        self._scalars.begin_epoch('val', None)

    def before_test_epoch(self, runner: Runner) -> None:
        """Begin to tally the test."""
        self._scalars.begin_epoch('test', None)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """Put the scalars of the iteration together, on the device."""
        self._scalars.gather()

    def _updater(self, hub: MessageHub):
        """``hub.update_scalar`` without waiting for the device."""

        def update_scalar(key: str, value: object, count: int = 1, resumed: bool = True) -> None:
            hub._set_resumed_keys(key, resumed)
            if isinstance(value, Tensor) and value.device.type in self.leave_on:
                self._scalars.add_later(key, value, count)
            else:
                self._scalars.add(key, hub._get_valid_value(value), count)

        return update_scalar


def _longest_window(runner: Runner) -> int:
    """Values to keep, so that what the log and the hooks ask for is there."""
    processor = runner.log_processor
    asked = [processor.window_size, *(custom.get('window_size') for custom in processor.custom_cfg)]
    asked += [getattr(hook, 'window', None) for hook in runner.hooks]
    return max([KEPT, *(window for window in asked if isinstance(window, int))])
