"""Bit-exact resume of an interrupted run."""

from contextlib import ExitStack

from mmengine.dataset import InfiniteSampler
from mmengine.dist import broadcast, get_dist_info
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn, tensor
from torch.utils.data import DataLoader

from ...utils import draws
from ...utils.wrappers import unwrap_model
from ..global_batches import is_shared, share_batches
from ..loader import number_batches
from ..schedules import NewSchedule, schedule_changes, schedule_has_ended
from ..seeding import GLOBAL, ITERATION, derive_seed, seed_everything


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Resume an interrupted run bit for bit as if it had never stopped.

    Which checkpoint a run resumes from is decided in :mod:`.checkpoint_hook`, how samples are
    seeded in :mod:`bimm_mm.engine.seeding`.

    Weights, optimizer, schedulers, loss scale and the log's history are in mmengine's checkpoints.
    This hook adds the rest, for runs by epochs and by iterations, on one device or many:

    - every sample is drawn with a seed of its own, made of the run's seed and the sample's place in
      the sequence of all processes, so that frames and augmentations depend neither on worker
      processes nor on the number of processes (see :mod:`bimm_mm.engine.seeding`);
    - every iteration starts with a seed of its own. Masks, frames and drop path of a sample come
      from that and its place in the global batch (see :mod:`bimm_mm.utils.draws`), as does dropout
      in the toolkit's encoders; what else draws (mixing, models of other libraries), from that
      and the process;
    - data goes on at the batch where the checkpoint was written, in the middle of an epoch too;
      what was trained on is not decoded again. Persistent workers do not stop at the end of an
      epoch (see :mod:`bimm_mm.engine.loader`).

    With another number of processes at the same global batch, the run goes on with the losses that
    it would have had, to rounding. With another global batch or data set it goes on after as many
    samples as were seen, schedules by epochs keep their place, and a warning says that it is not
    exact.
    With other schedulers, as those of a run with more epochs, it goes on with these, where they
    would be by now, and a warning says what has changed.

    On GPUs, sums are exact only with ``randomness = dict(deterministic=True)``, which costs time;
    without it the same samples and masks come, but losses differ in the last bits.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._resumed: dict = {}
        self._schedule: NewSchedule | None = None
        self._handles: list = []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the data position; rescale iterations and schedules if the batch size changed."""
        if not runner._resume:
            return
        meta = checkpoint['meta']
        if 'exact_resume' not in meta:
            self._take_schedule(runner, checkpoint)
            print_log(
                'The checkpoint was written without ExactResumeHook: the run goes on, but with '
                'other masks and augmentations than it would have had.',
                'current',
                level=30,
            )
            return
        self._resumed = saved = meta['exact_resume']
        loader = runner.train_loop.dataloader
        now = self._layout(loader)
        changes = self._changes(saved, now)
        self._take_schedule(runner, checkpoint, tell=not changes)
        if not changes:
            self._tell_what_goes_on(saved, now)
            return
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            batches = self._batches_done(loader)
            meta['iter'] = meta['epoch'] * len(loader) + batches
        print_log(
            f'Resumed with another layout ({"; ".join(changes)}): the run goes on after the same '
            f'number of samples, at iteration {meta["iter"]}, but is no longer bit-exact with one '
            'that was not stopped.',
            'current',
            level=30,
        )

    @staticmethod
    def _changes(saved: dict, now: dict) -> list[str]:
        """Tell what is not as it was, of what decides which samples an iteration has."""
        keys = ['samples in the data set']
        together = [layout['processes'] * layout['batch size'] for layout in (saved, now)]
        if together[0] != together[1] or not (now['shared'] and saved.get('shared', True)):
            keys += ['processes', 'batch size']
        return [f'{key} was {saved[key]}, now {now[key]}' for key in keys if saved[key] != now[key]]

    @staticmethod
    def _tell_what_goes_on(saved: dict, now: dict) -> None:
        if 'shared' not in saved:
            print_log(
                'The checkpoint is of an earlier version, which drew masks and augmentations '
                'otherwise: the run goes on with the same samples, but is not the same, bit for '
                'bit, as one that was not stopped.',
                'current',
                level=30,
            )
        elif saved['processes'] != now['processes']:
            print_log(
                f'The run goes on with {now["processes"]} '
                f'{"process" if now["processes"] == 1 else "processes"} in place of '
                f'{saved["processes"]}: the same global batches, masks and augmentations.',
                'current',
            )

    def _take_schedule(self, runner: Runner, checkpoint: dict, tell: bool = True) -> None:
        """Keep the schedulers of the config where they are not those of the checkpoint."""
        saved, built = checkpoint.get('param_schedulers'), runner.param_schedulers
        if not isinstance(saved, list) or not isinstance(built, list):
            return
        changes = schedule_changes(saved, built)
        if not changes:
            return
        self._schedule = NewSchedule(built)
        checkpoint['param_schedulers'] = [scheduler.state_dict() for scheduler in built]
        if tell:
            print_log(
                'The schedule is not that of the checkpoint: the run goes on with the one of the '
                'config, at the place where it would be had it had it from the beginning. '
                f'Changed: {"; ".join(changes)}',
                'current',
                level=30,
            )

    def _go_on_with_schedule(self, runner: Runner) -> None:
        loop = runner.train_loop
        if self._schedule is not None:
            epochs = isinstance(loop, EpochBasedTrainLoop)
            self._schedule.go_to(runner.iter, len(loop.dataloader) if epochs else None)
        if runner._resume and runner.iter < loop.max_iters and schedule_has_ended(runner):
            print_log(
                f'The schedule has ended before iteration {runner.iter}, and the run goes on to '
                f'iteration {loop.max_iters} at its last, low learning rate. For a longer schedule '
                'set the `end` of the schedulers in param_scheduler.',
                'current',
                level=30,
            )

    def before_train(self, runner: Runner) -> None:
        """Number and seed the batches, from the restored position on."""
        self._go_on_with_schedule(runner)
        rank, processes = get_dist_info()
        seed = tensor(self._resumed.get('seed', runner.seed))
        broadcast(seed)  # with diff_rank_seed, each process has another
        self.seed, self.rank, self.processes = int(seed), rank, processes
        loop = runner.train_loop
        loop.dataloader = loader = number_batches(loop.dataloader, self.seed, rank, processes)
        self._batches = loader.batch_sampler
        self._batches.iteration = runner.iter
        if hasattr(self._batches.sampler, 'seed'):
            self._batches.sampler.seed = self.seed
        done = self._batches_done(loader)
        if isinstance(loop, EpochBasedTrainLoop):
            self._batches.start = (runner.epoch, done)
            loop._max_iters = loop.max_epochs * len(loader)
            run_iter = loop.run_iter

            def run_numbered_iter(idx: int, data_batch: dict) -> None:
                """In the epoch that is taken up, the loop would count batches from 0."""
                skipped = done if loop.epoch == self._batches.start[0] else 0
                run_iter(idx + skipped, data_batch)

            loop.run_iter = run_numbered_iter
        elif isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = _ContinuedBatches(loader, skipped=runner.iter, done=done)
        self._start, self._iteration = (runner.iter, done), runner.iter
        self._watch_model(unwrap_model(runner.model))

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the batch sampler where the training is."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._batches.epoch, self._batches.iteration = runner.epoch, runner.iter

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Seed the random numbers that the model draws in this iteration."""
        seed_everything(derive_seed(ITERATION, self.seed, self.rank, runner.iter))
        self._iteration = runner.iter

    def after_train(self, runner: Runner) -> None:
        """Let the model draw as before."""
        for handle in self._handles:
            handle.remove()

    def _watch_model(self, model: nn.Module) -> None:
        """Have the model draw by places in the global batch while it computes losses."""
        stack = ExitStack()

        def begin(model: nn.Module, args: tuple) -> None:
            if model.training:
                seed = derive_seed(GLOBAL, self.seed, self._iteration)
                stack.enter_context(draws.global_batch(seed, self.rank, self.processes))

        def end(model: nn.Module, args: tuple, output: object) -> None:
            stack.close()

        self._handles = [
            model.register_forward_pre_hook(begin),
            model.register_forward_hook(end, always_call=True),
        ]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the data position in the checkpoint."""
        loop, meta = runner.train_loop, checkpoint['meta']
        if isinstance(loop, EpochBasedTrainLoop):
            batches = meta['iter'] - meta['epoch'] * len(loop.dataloader)
        else:
            first, done = self._start
            batches = done + meta['iter'] - first
        layout = self._layout(loop.dataloader)
        samples = batches * layout['batch size'] * layout['processes']
        meta['exact_resume'] = dict(layout, seed=self.seed, samples=samples)

    @staticmethod
    def _layout(loader: DataLoader) -> dict[str, int]:
        """Return the settings that decide whether a resumed run is exact.

        ``shared`` says whether only the global batch counts, and not how it is divided.
        """
        _, processes = get_dist_info()
        batches = loader.batch_sampler
        batches = share_batches(getattr(batches, 'batches', batches), 0, processes)
        return {
            'shared': is_shared(batches),
            'processes': processes,
            'batch size': loader.batch_sampler.batch_size,
            'samples in the data set': len(loader.dataset),
        }

    def _batches_done(self, loader: DataLoader) -> int:
        """Return the number of batches, as this run has them, that were trained on already.

        Of the current epoch in a run by epochs, of the whole run in one by iterations.
        """
        layout = self._layout(loader)
        samples = self._resumed.get('samples', 0)
        return samples // (layout['batch size'] * layout['processes'])


class _ContinuedBatches:
    """Iterator over the data for IterBasedTrainLoop that continues where the checkpoint was saved.

    Args:
        loader: Of numbered batches.
        skipped: Batches that the loop is about to throw away; they are not made.
        done: Batches of the sequence that were trained on.
    """

    def __init__(self, loader: DataLoader, skipped: int, done: int) -> None:
        self.loader, self.skipped = loader, skipped
        self.passes = 0
        if not isinstance(loader.batch_sampler.sampler, InfiniteSampler):
            self.passes, done = divmod(done, len(loader))
        loader.batch_sampler.start = (self.passes, done)
        self.iterator = None

    def __next__(self) -> dict:
        if self.skipped:
            self.skipped -= 1
            return {}
        if self.iterator is None:
            self.iterator = self._start_pass()
        try:
            return next(self.iterator)
        except StopIteration:
            self.passes += 1
            self.iterator = self._start_pass()
            return next(self.iterator)

    def _start_pass(self):
        self.loader.batch_sampler.epoch = self.passes
        return iter(self.loader)
