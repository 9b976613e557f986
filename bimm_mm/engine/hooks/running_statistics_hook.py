"""Average the running statistics of BatchNorm over all processes."""

import torch
from mmengine.dist import all_reduce, get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn


@HOOKS.register_module()
class SyncRunningStatisticsHook(Hook):
    """Give all processes the same running statistics before they are used or saved.

    Each process updates the running mean and variance of BatchNorm from its own samples. Without
    this hook, each would evaluate its share of the validation set with another model, and the
    checkpoint would hold that of the first process. They are averaged at the end of each epoch and
    before each validation. SyncBatchNorm and other norms need nothing, and cost nothing.

    mmengine's SyncBuffersHook averages all buffers, constants too, whose last bits it changes where
    the number of processes is not a power of two: a resumed run would then differ from one that was
    not stopped.
    """

    def __init__(self) -> None:
        self._stale = False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """Remember that the statistics have changed."""
        self._stale = True

    def after_train_epoch(self, runner: Runner) -> None:
        """Average, before the checkpoint of the epoch is written."""
        self._average(runner.model)

    def before_val_epoch(self, runner: Runner) -> None:
        """Average, in a run by iterations, too."""
        self._average(runner.model)

    def _average(self, model: nn.Module) -> None:
        processes = get_dist_info()[1]
        if not self._stale or processes == 1:
            return
        self._stale = False
        statistics = running_statistics(model)
        if not statistics:
            return
        mean = torch.cat([value.flatten() for value in statistics])
        all_reduce(mean, 'mean')
        parts = mean.split([value.numel() for value in statistics])
        for value, part in zip(statistics, parts, strict=True):
            value.copy_(part.view_as(value))


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Running means and variances that each process computes by itself."""
    return [
        value
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        and not isinstance(module, nn.SyncBatchNorm)
        and not getattr(module, 'is_synchronized', False)
        for value in (module.running_mean, module.running_var)
        if value is not None
    ]
