"""End a run before its schedule does, for another stage to go on."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class EndStageHook(Hook):
    """End a run after some epochs, while schedules span all stages.

    The first stage of VIMPAC's large model trains for 90 of 100 epochs; the second resumes its
    last checkpoint on larger frames, and the learning rate goes on falling.

    Args:
        epochs: After how many epochs of ``train_cfg.max_epochs`` the run ends.
    """

    priority = 'VERY_LOW'  # after the checkpoint was written

    def __init__(self, epochs: int) -> None:
        if epochs < 1:
            raise ValueError(f'epochs={epochs} must be at least 1')
        self.epochs = epochs

    def after_train_epoch(self, runner: Runner) -> None:
        """End the run."""
        if runner.epoch + 1 >= self.epochs:
            runner.train_loop.stop_training = True
