"""Bit-exact resume of an interrupted run."""

from mmengine.dataset import InfiniteSampler
from mmengine.dist import broadcast, get_dist_info
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import tensor
from torch.utils.data import DataLoader

from ..schedules import NewSchedule, schedule_changes, schedule_has_ended
from ..seeding import ITERATION, derive_seed, number_batches, seed_everything


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Resume an interrupted run bit for bit as if it had never stopped.

    Which checkpoint a run resumes from is decided in :mod:`.checkpoint_hook`, how samples are
    seeded in :mod:`bimm_mm.engine.seeding`.

    Weights, optimizer, schedulers, loss scale and the log's history are in mmengine's checkpoints.
    This hook adds the rest, for runs by epochs and by iterations, on one device or many:

    - every sample is drawn with a seed of its own, made of the run's seed, the process and the
      sample's place in the sequence, so that frames and augmentations do not depend on worker
      processes (see :mod:`bimm_mm.engine.seeding`);
    - every iteration starts with a seed of its own, for masks, frames, drop path and mixing;
    - data goes on at the batch where the checkpoint was written, in the middle of an epoch too;
      what was trained on is not decoded again.

    With another number of processes, batch size or data set the run goes on after as many samples
    as were seen, schedules by epochs keep their place, and a warning says that it is not exact.
    With other schedulers, as those of a run with more epochs, it goes on with these, where they
    would be by now, and a warning says what has changed.

    On GPUs, sums are exact only with ``randomness = dict(deterministic=True)``, which costs time;
    without it the same samples and masks come, but losses differ in the last bits.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._resumed: dict = {}
        self._schedule: NewSchedule | None = None

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
        changes = [
            f'{key} was {saved[key]}, now {now[key]}' for key in now if saved[key] != now[key]
        ]
        self._take_schedule(runner, checkpoint, tell=not changes)
        if not changes:
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
        rank, _ = get_dist_info()
        seed = tensor(self._resumed.get('seed', runner.seed))
        broadcast(seed)  # with diff_rank_seed, each process has another
        self.seed, self.rank = int(seed), rank
        loop = runner.train_loop
        loop.dataloader = loader = number_batches(loop.dataloader, self.seed, rank)
        self._batches = loader.batch_sampler
        self._batches.iteration = runner.iter
        if hasattr(self._batches.sampler, 'seed'):
            self._batches.sampler.seed = self.seed
        done = self._batches_done(loader)
        if isinstance(loop, EpochBasedTrainLoop):
            self._batches.start = (runner.epoch, done)
            run_iter = loop.run_iter

            def run_numbered_iter(idx: int, data_batch: dict) -> None:
                """In the epoch that is taken up, the loop would count batches from 0."""
                skipped = done if loop.epoch == self._batches.start[0] else 0
                run_iter(idx + skipped, data_batch)

            loop.run_iter = run_numbered_iter
        elif isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = _ContinuedBatches(loader, skipped=runner.iter, done=done)
        self._start = (runner.iter, done)

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the epoch of the batch sampler."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._batches.epoch = runner.epoch

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Seed the random numbers that the model draws in this iteration."""
        seed_everything(derive_seed(ITERATION, self.seed, self.rank, runner.iter))

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
        """Return the settings that must be equal for a resumed run to be exact."""
        _, processes = get_dist_info()
        return {
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
        batches = self.loader.batch_sampler
        batches.epoch = self.passes
        if hasattr(batches.sampler, 'set_epoch'):
            batches.sampler.set_epoch(self.passes)
        return iter(self.loader)
