"""As many workers for the data as the machine has cores for."""

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from ...utils.limits import raise_open_files
from ...utils.workers import AT_MOST, cores_and_processes, end_workers, share_of, with_workers


@HOOKS.register_module()
class WorkerProcessesHook(Hook):
    """Choose ``num_workers`` of the data loaders that leave it out.

    Each training process gets as many workers as its share of the machine's cores: those that the
    processes on this machine may run on (a container's limit counts), divided by their number. The
    log says how many. A loader that names ``num_workers`` keeps it. Workers persist over epochs
    where the config does not say otherwise (``persistent_workers``). Source: our choice.

    Args:
        at_most: Workers of a process. Each takes some hundred MB of memory.

    Raises:
        ValueError: ``at_most`` is less than 1.
    """

    priority = 'HIGHEST'  # before others replace the loader, or start its workers

    def __init__(self, at_most: int = AT_MOST) -> None:
        if at_most < 1:
            raise ValueError(f'at_most={at_most} must be at least 1')
        self.at_most = at_most
        self._workers: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Give the loaders of training and validation their workers, and more open files."""
        raised = raise_open_files()
        if raised is not None:
            print_log(f'The limit of open files is {raised[1]} now, not {raised[0]}', 'current')
        self._set(runner, 'train')
        self._set(runner, 'val')  # now, since other hooks wrap what its workers begin with
        loop = runner.train_loop
        if isinstance(getattr(loop, 'dataloader_iterator', None), _InfiniteDataloaderIterator):
            loop.dataloader_iterator = _InfiniteDataloaderIterator(loop.dataloader)

    def before_val(self, runner: Runner) -> None:
        """Give the validation loader its workers."""
        self._set(runner, 'val')

    def before_test(self, runner: Runner) -> None:
        """Give the test loader its workers."""
        self._set(runner, 'test')

    def after_run(self, runner: Runner) -> None:
        """End the workers, for a process that goes on, as a notebook's or a study's."""
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
            loader = getattr(loop, 'dataloader', None)  # None: a loop that was not built
            if isinstance(loader, DataLoader):
                end_workers(loader, getattr(loop, 'dataloader_iterator', None))

    after_failure = after_run

    def _set(self, runner: Runner, name: str) -> None:
        settings = runner.cfg.get(f'{name}_dataloader')
        loop = getattr(runner, f'{name}_loop')
        if settings is None or not isinstance(getattr(loop, 'dataloader', None), DataLoader):
            return
        workers = settings.get('num_workers', self._share())
        persistent = bool(workers) and settings.get('persistent_workers', name != 'test')
        now = loop.dataloader.num_workers, loop.dataloader.persistent_workers
        if now != (workers, persistent):
            loop.dataloader = with_workers(loop.dataloader, workers, persistent)

    def _share(self) -> int:
        if self._workers is None:
            cores, processes = cores_and_processes()
            self._workers = share = share_of(cores, processes, self.at_most)
            workers = '1 worker loads' if share == 1 else f'{share} workers load'
            each = f'{processes} training process{"es" * (processes > 1)}'
            print_log(
                f'{workers} the data of each process ({cores} cores, {each} on this machine); '
                'num_workers of a data loader sets another number',
                'current',
            )
        return self._workers
