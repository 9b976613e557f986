"""From a ventral checkpoint to the branches of the next stage."""

import re

from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from ..backbones.loading import PATCH_EMBEDDING
from ..checkpoints import cut
from ..necks.decoders import StageDecoder


def inflate_patch_embedding(weight: Tensor, tubelet_size: int, mode: str = 'center') -> Tensor:
    """Patch embedding of images to one of cubes, such that a static clip gives the same tokens.

    Args:
        weight (Tensor): (C, C_in, p, p).
        tubelet_size (int): frames t of a cube.
        mode (str): 'center' gives the weight to frame t // 2 and 0 to the others, so that a token
            is that of one frame at first, sharp where things move (ViViT, section 3.4; our choice).
            'mean' divides it among the frames.

    Returns:
        Tensor: (C, C_in, t, p, p).
    """
    inflated = weight[:, :, None].repeat(1, 1, tubelet_size, 1, 1) / tubelet_size
    if mode == 'center':
        inflated.zero_()[:, :, tubelet_size // 2] = weight
    return inflated


def load_ventral_encoder(
    backbone: nn.Module, checkpoint: str, state: dict[str, Tensor] | None = None
) -> None:
    """Initialise an encoder, of images or clips, from a ventral checkpoint.

    Blocks, norms, class token and patch embedding are taken over, the latter inflated for clips.
    Positions are taken over by image encoders; clips keep their joint space-time positions. Norms
    of stages which the checkpoint's encoder did not have start anew.

    Args:
        backbone (nn.Module): :class:`BimmViT`.
        checkpoint (str): a file of a pretrainer with a ventral branch, or of an image encoder.
        state (dict[str, Tensor], optional): what :func:`read_state` gave for it, where it was read
            already.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the checkpoint has no ventral encoder, or one that does not fit.
    """
    state = read_state(checkpoint) if state is None else state
    prefixes = ('ventral.backbone.', 'backbone.', '')
    prefix = next((p for p in prefixes if p + PATCH_EMBEDDING in state), None)
    if prefix is None or state[prefix + PATCH_EMBEDDING].dim() != 4:
        raise ValueError(
            f"checkpoint '{checkpoint}' holds no image encoder: it needs keys like "
            f"'ventral.backbone.{PATCH_EMBEDDING}', with four dimensions"
        )
    state = cut(state, prefix)
    if backbone.is_video:
        state[PATCH_EMBEDDING] = inflate_patch_embedding(
            state[PATCH_EMBEDDING], backbone.patch_size[0], backbone.inflation
        )
        state['pos_embed'] = backbone.pos_embed
    try:
        missing, unexpected = backbone.load_state_dict(state, strict=False)
    except ValueError as error:
        raise ValueError(f"checkpoint '{checkpoint}': {error}") from error
    missing = [key for key in missing if not re.fullmatch(r'norm\d+\.(weight|bias)', key)]
    if missing or unexpected:
        raise ValueError(
            f"checkpoint '{checkpoint}' does not fit the encoder: it lacks {missing or 'nothing'} "
            f'and has {unexpected or "nothing"} besides'
        )
    print_log(f'Initialised the encoder from the ventral branch of {checkpoint}', 'current')


def load_ventral_decoders(neck: nn.Module, checkpoint: str, state: dict[str, Tensor]) -> bool:
    """Let the ventral decoders go on from a checkpoint, where it has decoders of the same shape.

    Others (of MAE, or with another target) start anew, which the log says.

    Returns:
        bool: whether they go on.
    """
    state = cut(state, 'ventral.neck.')
    own = neck.state_dict()
    fits = own.keys() == state.keys() and all(own[key].shape == state[key].shape for key in own)
    if fits:
        neck.load_state_dict(state)
    print_log(
        f'The ventral decoders {"go on from" if fits else "start anew: they do not match those of"}'
        f' {checkpoint}',
        'current',
    )
    return fits


def copy_ventral_decoders(ventral: nn.Module, dorsal: nn.Module) -> None:
    """Let the dorsal decoders start from the ventral ones, where they fit (our choice).

    The last layers are taken over where both branches have the same target. Of a static clip of one
    cube, the dorsal branch then predicts what the ventral one predicts of the image.

    Args:
        ventral (nn.Module): :class:`Branch` on images.
        dorsal (nn.Module): :class:`Branch` on clips.
    """
    taken = []
    for source, name, decoder, own_name in zip(
        ventral.neck.decoders, ventral.names, dorsal.neck.decoders, dorsal.names, strict=False
    ):
        if isinstance(decoder, StageDecoder) and type(decoder) is type(source):
            patch_size = dorsal.backbone.patch_size if name == own_name else None
            if decoder.start_from_images(source, patch_size):
                taken.append(own_name)
    print_log(
        f'Dorsal decoders that start from the ventral ones: {", ".join(taken) or "none fits"}',
        'current',
    )


def read_state(checkpoint: str) -> dict[str, Tensor]:
    """The weights in a checkpoint, a file or whatever mmengine loads from, on the CPU."""
    state = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    return state.get('state_dict', state)
