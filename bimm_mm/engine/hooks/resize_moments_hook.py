"""Go on with larger inputs: an optimizer's moments follow the positions that were interpolated."""

import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor


@HOOKS.register_module()
class ResizeMomentsHook(Hook):
    """Interpolate what an optimizer remembers of parameters that have another length now.

    The second stage of VIMPAC resumes the first one's run, optimizer included, on frames of twice
    the size (paper, appendix C.1). The encoder interpolates its tables of row and column positions
    when it loads them; this hook does the same, linearly, to every state of theirs that has the
    parameter's shape (Adam's two moments).

    Raises:
        ValueError: If a parameter has changed in more than its first axis.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Change the optimizer's state in a checkpoint, in place, before it is loaded."""
        saved = checkpoint.get('optimizer')
        if not saved or not getattr(runner, '_resume', False):
            return
        wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        parameters = [p for group in wrapper.optimizer.param_groups for p in group['params']]
        numbers = [n for group in saved['param_groups'] for n in group['params']]
        if len(parameters) != len(numbers):
            return  # of another model: loading it says so
        names = {parameter: name for name, parameter in runner.model.named_parameters()}
        resized = []
        for number, parameter in zip(numbers, parameters, strict=True):
            state, name = saved['state'].get(number, {}), names[parameter]
            for key, value in state.items():
                is_table = isinstance(value, Tensor) and value.dim() == parameter.dim() == 2
                if is_table and value.shape != parameter.shape:
                    state[key] = resize_rows(value, parameter, name)
                    resized.append(name)
        if resized:
            print_log(f'Interpolated the moments of {", ".join(sorted(set(resized)))}', 'current')


def resize_rows(value: Tensor, parameter: Tensor, name: str) -> Tensor:
    """Interpolate the rows of a table (n, C) linearly to those of ``parameter`` (m, C)."""
    if value.shape[1:] != parameter.shape[1:]:
        raise ValueError(
            f'the optimizer has moments of shape {tuple(value.shape)} for {name}, which now has '
            f'shape {tuple(parameter.shape)}: only the number of rows may change'
        )
    rows = F.interpolate(value.T[None].float(), len(parameter), mode='linear', align_corners=False)
    return rows[0].T.to(value.dtype).contiguous()
