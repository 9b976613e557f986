"""Layer-wise learning rate decay for the models of all four libraries."""

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn
from torch.distributed.fsdp import FlatParameter

# neither these parameters, whatever module holds them, nor biases and norms are decayed
TOKENS = ('cls_token', 'mask_token', 'query_token', 'pos_embed')
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
OPTIONS = {'layer_decay_rate'}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise lr decay, and no weight decay for biases, norms, tokens and position embeddings.

    A parameter of layer i of n gets the learning rate lr * rate ** (n - 1 - i): patch and position
    embedding and class token are layer 0, block b is layer b + 1, and everything else, the heads
    too, is the last layer and has the full rate (BEiT's rule; paper: table 9). The layers are
    asked of each module with mmpretrain's ``get_layer_depth(param_name, prefix)``, such as
    :class:`BimmViT`, wherever it is in the model.

    Parameters with the same learning rate and weight decay are one group: an optimizer's step
    costs time per group. A parameter that two modules share counts once; frozen ones are left out.
    FSDP's flat parameters (``use_orig_params=False``) mix weights, biases and layers, and are
    refused. In a config::

        optim_wrapper = dict(
            constructor='LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.75),
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        )

    Args:
        optim_wrapper_cfg: As of mmengine's constructor.
        paramwise_cfg: ``layer_decay_rate`` in (0, 1]; 1 gives all layers the same rate.

    Raises:
        ValueError: For another option or rate, where a rate below 1 meets a model without layers,
            or where parameters are flat and would need different rates or weight decays.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        if set(self.paramwise_cfg) != OPTIONS:
            raise ValueError(
                f'paramwise_cfg={dict(self.paramwise_cfg)} must have layer_decay_rate and nothing '
                'else'
            )
        self.rate = self.paramwise_cfg['layer_decay_rate']
        if not 0 < self.rate <= 1:
            raise ValueError(f'layer_decay_rate={self.rate} must be above 0 and at most 1')

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """Append the parameter groups of ``module`` to ``params``."""
        layered = {
            _plain(prefix): part
            for prefix, part in module.named_modules()
            # with one rate for all, none is asked: mmpretrain's models raise an error where their
            # backbone has no layers
            if self.rate < 1 and hasattr(part, 'get_layer_depth')
        }
        if self.rate < 1 and not layered:
            raise ValueError(
                f'layer_decay_rate={self.rate} needs a backbone with get_layer_depth, as BimmViT '
                f'has, but {type(module).__name__} holds none'
            )
        base_decay = self.base_wd or 0.0
        if self.rate < 1 or base_decay:
            _refuse_flat_parameters(module)
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        seen = set()
        for prefix, part in module.named_modules():
            for name, parameter in part.named_parameters(recurse=False):
                if parameter in seen or not parameter.requires_grad:
                    continue
                seen.add(parameter)
                scale = self._scale(layered, _plain(f'{prefix}.{name}'))
                spared = isinstance(part, NORMS) or name == 'bias' or name in TOKENS
                spared = spared or parameter.dim() == 0  # a temperature
                groups.setdefault((scale, 0.0 if spared else base_decay), []).append(parameter)
        for (scale, decay), members in sorted(groups.items(), key=lambda item: item[0]):
            params.append(
                dict(params=members, lr=self.base_lr * scale, lr_scale=scale, weight_decay=decay)
            )
            count = sum(parameter.numel() for parameter in members)
            print_log(
                f'lr x {scale:.4g}, weight decay {decay:g}: {len(members)} parameters, '
                f'{count:,} values',
                logger='current',
            )

    def _scale(self, layered: dict[str, nn.Module], name: str) -> float:
        """Return the factor of the learning rate of the parameter ``name``."""
        owners = [prefix for prefix in layered if not prefix or name.startswith(f'{prefix}.')]
        if not owners:
            return 1.0
        prefix = max(owners, key=len)
        layer, layers = layered[prefix].get_layer_depth(
            name.removeprefix(f'{prefix}.' if prefix else '')
        )
        return self.rate ** (layers - 1 - layer)


def _refuse_flat_parameters(module: nn.Module) -> None:
    """Raise ValueError where FSDP has flattened parameters that need different settings."""
    flat = [name for name, p in module.named_parameters() if isinstance(p, FlatParameter)]
    if flat:
        raise ValueError(
            f'{len(flat)} flat parameters of FSDP ({flat[0]}) mix weights, biases and layers, '
            'which need learning rates and weight decays of their own: set '
            'strategy.model_wrapper.use_orig_params=True'
        )


def _plain(name: str) -> str:
    """Return a name without what FSDP and activation checkpointing insert into it."""
    parts = name.split('.')
    return '.'.join(p for p in parts if p not in ('_fsdp_wrapped_module', ''))
