"""What an encoder takes over from a checkpoint, and what it refuses.

mmengine loads checkpoints with ``strict=False`` and only logs what does not fit, so that a wrong
file leaves random weights behind. The encoder therefore looks at what it is given by itself,
whoever loads it: ``init_cfg``, ``load_from``, ``--resume`` or ``load_state_dict``.
"""

from torch import Tensor, nn

from ...utils.checkpoint import strip_prefix
from ...utils.commands import how_to_import
from ..checkpoints import PATCH_EMBEDDING
from ..layers import resize_position_embedding
from .arch import ARCHS

INFLATIONS = ('center', 'mean')  # how a patch embedding of clips starts from one of images


def fit_state_dict(encoder: nn.Module, state_dict: dict, prefix: str, *args) -> None:
    """Fit a checkpoint to :class:`BimmViT`, in place, or refuse it: its hook before loading.

    Norms of blocks that the encoder does not return are left aside, and so is a mask token that it
    has no use for; norms which the checkpoint lacks start anew; positions are interpolated. With
    ``deflate``, a video encoder's patch embedding is summed over the frames of a tubelet.

    Raises:
        ValueError: The checkpoint has no weights for the encoder, or is one of images where it
            should be one of videos or the reverse, or of another width, depth or patch size. The
            number of attention heads cannot be seen.
    """
    state = strip_prefix(state_dict, prefix)
    if any(key.endswith('flat_param') for key in state):
        return  # FSDP's own shards of this very model: torch compares them
    for key in state:
        norm, _, index = key.rpartition('.')[0].partition('norm')
        if not norm and index.isdigit() and int(index) not in encoder.out_indices:
            del state_dict[prefix + key]
    if encoder.masked == 'dropped' and state.pop('mask_token', None) is not None:
        del state_dict[f'{prefix}mask_token']
    weight = state.get(PATCH_EMBEDDING)
    if encoder.deflate and weight is not None and weight.dim() == 5:
        state[PATCH_EMBEDDING] = state_dict[prefix + PATCH_EMBEDDING] = weight.sum(dim=2)
    problems = _problems(encoder, state)
    if problems:
        name = f" '{prefix[:-1]}'" if prefix else ''
        more = f'; and {len(problems) - 4} more' if len(problems) > 4 else ''
        raise ValueError(
            f'the checkpoint does not fit the encoder{name}: {"; ".join(problems[:4])}{more}'
        )
    positions = state.get('pos_embed')
    if positions is not None:
        grid = tuple(encoder.pos_embed.shape[1:4])
        state_dict[f'{prefix}pos_embed'] = resize_position_embedding(
            positions, grid, encoder.pos_interpolation
        )


def inflate_patch_embedding(weight: Tensor, tubelet_size: int, mode: str = 'center') -> Tensor:
    """Patch embedding of images to one of cubes, such that a static clip gives the same tokens.

    Args:
        weight: (C, C_in, p, p).
        tubelet_size: Frames t of a cube.
        mode: 'center' gives the weight to frame t // 2 and 0 to the others, so that a token
            is that of one frame at first, sharp where things move (ViViT, section 3.4; our choice).
            'mean' divides it among the frames.

    Returns:
        (C, C_in, t, p, p).
    """
    if mode not in INFLATIONS:
        raise ValueError(f"mode='{mode}' must be {' or '.join(map(repr, INFLATIONS))}")
    inflated = weight[:, :, None].repeat(1, 1, tubelet_size, 1, 1)
    if mode == 'mean':
        return inflated / tubelet_size
    inflated.zero_()[:, :, tubelet_size // 2] = weight
    return inflated


def _problems(encoder: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """Why the weights ``state`` are not this encoder's."""
    if not encoder.parameter_shapes.keys() & state.keys():
        return [
            'it has no weights for it (out of the checkpoint of another model, init_cfg with a '
            f'prefix takes the encoder){how_to_import()}'
        ]
    weight = state.get(PATCH_EMBEDDING)
    if weight is not None and weight.dim() != (5 if encoder.is_video else 4):
        own, other = ('video', 'image') if encoder.is_video else ('image', 'video')
        hint = '' if encoder.is_video else ', and deflate=False'
        return [
            f'this is {_article(own)} encoder{hint}, but the patch embedding is that of '
            f'{_article(other)} encoder, {tuple(weight.shape)}'
        ]
    own_blocks, blocks = (
        {key.split('.')[1] for key in keys if key.startswith('blocks.')}
        for keys in (encoder.parameter_shapes, state)
    )
    depth, own_depth = len(blocks), len(own_blocks)
    if depth != own_depth:
        return [f'it has {depth} blocks, the encoder {own_depth}' + _arch(weight, depth)]
    if weight is not None and weight.shape[0] != encoder.embed_dims:
        return [
            f'it is {weight.shape[0]} wide, the encoder {encoder.embed_dims}' + _arch(weight, depth)
        ]
    problems = [
        f'{key} is not in it'
        if key not in state
        else f'{key} has shape {tuple(state[key].shape)}, the encoder needs {shape}'
        for key, shape in encoder.parameter_shapes.items()
        if key not in state or tuple(state[key].shape) != shape
    ]
    positions = state.get('pos_embed')
    if positions is not None and positions.dim() != 5:
        problems.append(f"pos_embed has shape {tuple(positions.shape)}, not (1, T', H', W', C)")
    return problems


def _arch(weight: Tensor | None, depth: int) -> str:
    """The name of the arch that has the width of a patch embedding and so many blocks."""
    for name, sizes in ARCHS.items():
        if weight is not None and (sizes['embed_dims'], sizes['depth']) == (len(weight), depth):
            return f". Its arch is '{name}'"
    return ''


def _article(kind: str) -> str:
    return f'{"an" if kind == "image" else "a"} {kind}'
