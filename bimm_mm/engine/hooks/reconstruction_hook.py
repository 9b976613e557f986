"""Draw reconstructions while a model trains."""

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.distributed.fsdp import FullyShardedDataParallel

from ...utils.wrappers import unwrap_model


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draw reconstructions of the same samples with the same masks at regular intervals.

    The samples are those of the first batch. The picture goes to the runner's visualizer, as
    ``reconstruction``: with ``LocalVisBackend`` into ``vis_data/vis_image`` of the work dir, with
    ``TensorboardVisBackend`` into TensorBoard. It is that of
    :func:`bimm_mm.visualization.draw_reconstruction`. Source: our choice.

    Args:
        interval: Iterations between two pictures; the last iteration has one, too.
        samples: How many samples of the batch.
        seed: Of the masks, and of the frame that an image branch gets.
        composite: Whether predictions are completed with the target where there are none.
    """

    priority = 'LOW'

    def __init__(
        self, interval: int = 5000, samples: int = 1, seed: int = 0, composite: bool = True
    ) -> None:
        if interval < 1 or samples < 1:
            raise ValueError(f'interval={interval} and samples={samples} must be at least 1')
        self.interval = interval
        self.samples = samples
        self.seed = seed
        self.composite = composite
        self._batch: dict | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs=None
    ) -> None:
        """Draw every ``interval`` iterations and at the end."""
        if self._batch is None:
            self._batch = {name: part[: self.samples] for name, part in data_batch.items()}
            self._batch['inputs'] = [x.clone() for x in self._batch['inputs']]
        done = runner.iter + 1
        if done % self.interval and done != runner.max_iters:
            return
        # parameters are gathered by all processes together where they are sharded
        sharded = isinstance(runner.model, FullyShardedDataParallel)
        if sharded or is_main_process():
            image = self.draw(runner, sharded)
            if is_main_process():
                self.show(runner, image)

    def show(self, runner: Runner, image: np.ndarray) -> None:
        """Give a picture, (H, W, 3) RGB uint8, to the runner's visualizer."""
        runner.visualizer.add_image('reconstruction', image, step=runner.iter + 1)

    @torch.no_grad()
    def draw(self, runner: Runner, sharded: bool) -> np.ndarray:
        """Return the picture, (H, W, 3) RGB uint8; the random state of the training stays."""
        # drawing needs matplotlib, a run without this hook does not
        from ...visualization import draw_reconstruction

        model = unwrap_model(runner.model)
        batch = model.data_preprocessor(self._batch)
        inputs = batch['inputs']
        devices = [inputs.device] if inputs.is_cuda else []
        training = runner.model.training
        runner.model.eval()
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)
            results = (runner.model if sharded else model)(**batch, mode='predict')
        runner.model.train(training)
        count = min(self.samples, len(inputs))
        title = f'iteration {runner.iter + 1}'
        figure = draw_reconstruction(
            model, results, samples=range(count), composite=self.composite, title=title
        )
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
