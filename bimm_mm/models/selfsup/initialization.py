"""From a ventral checkpoint to the branches of the next stage."""

import re
from collections.abc import Sequence

from mmengine.logging import print_log
from torch import Tensor, nn

from ...utils.checkpoint import read_state, strip_prefix
from ...utils.commands import how_to_import
from ..backbones.loading import INFLATIONS, inflate_patch_embedding
from ..checkpoints import PATCH_EMBEDDING, describe_encoders, find_encoder, find_encoders
from ..layers import resize_position_embedding
from ..necks.decoders import StageDecoder


def load_ventral_encoder(
    backbone: nn.Module, checkpoint: str, state: dict[str, Tensor] | None = None
) -> None:
    """Initialize an encoder, of images or clips, from a ventral checkpoint.

    Blocks, norms, class token and patch embedding are taken over, the latter inflated for clips.
    Positions are taken over, too; those of clips add their code of the time to them (where
    ``time_positions`` is 'divided' or 'sequence', they stay as they are). Norms of stages which the
    checkpoint's encoder did not have start anew.

    Args:
        backbone: :class:`BimmViT`.
        checkpoint: A file of a pretrainer with a ventral branch, or of an image encoder.
        state: What :func:`read_state` gave for it, where it was read
            already.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the checkpoint has no ventral encoder, or one that does not fit.
    """
    state = read_state(checkpoint) if state is None else state
    prefix = find_encoder(state, 'ventral')
    if prefix is None or find_encoders(state)[prefix] != 'image':
        raise ValueError(
            f"checkpoint '{checkpoint}' holds no image encoder, but "
            f'{describe_encoders(state)}; it needs keys like '
            f"'ventral.backbone.{PATCH_EMBEDDING}', with four dimensions{how_to_import()}"
        )
    state = strip_prefix(state, prefix)
    if backbone.is_video:
        state[PATCH_EMBEDDING] = inflate_patch_embedding(
            state[PATCH_EMBEDDING],
            backbone.patch_size[0],
            getattr(backbone, 'inflation', INFLATIONS[0]),
        )
        state['pos_embed'] = clip_positions(backbone, state.get('pos_embed'))
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
    print_log(f'Initialized the encoder from the ventral branch of {checkpoint}', 'current')


def clip_positions(backbone: nn.Module, image: Tensor | None) -> Tensor:
    """Positions of a video encoder, (1, T', H', W', C), with the places of an image encoder's.

    Args:
        backbone: :class:`BimmViT` on clips.
        image: (1, 1, H, W, C), interpolated to the grid.
    """
    own = backbone.pos_embed
    known = image is not None and image.dim() == 5 and image.shape[-1] == own.shape[-1]
    if not known or getattr(backbone, 'time_positions', '') not in ('added', 'none'):
        return own
    places = resize_position_embedding(image, (1, *own.shape[2:4]), backbone.pos_interpolation)
    return places + (own - own.mean(dim=1, keepdim=True)).to(places)


def load_ventral_decoders(neck: nn.Module, checkpoint: str, state: dict[str, Tensor]) -> list[int]:
    """Let the ventral decoders go on from a checkpoint, where it has decoders of the same shape.

    Others (of MAE, or with another target) start anew, which the log says.

    Returns:
        Which of the neck's decoders go on.
    """
    state = strip_prefix(state, 'ventral.neck.decoders.')
    found = []
    decoders = getattr(neck, 'decoders', ())
    for index, decoder in enumerate(decoders):
        part, own = strip_prefix(state, f'{index}.'), decoder.state_dict()
        if own.keys() == part.keys() and all(own[key].shape == part[key].shape for key in own):
            decoder.load_state_dict(part)
            found.append(index)
    told = ', '.join(map(str, found)) or 'none, they do not match those'
    print_log(
        f'Ventral decoders, of {len(decoders)}, that go on from {checkpoint}: {told}', 'current'
    )
    return found


def copy_ventral_decoders(ventral: nn.Module, dorsal: nn.Module, indices: Sequence[int]) -> None:
    """Let dorsal decoders start from the ventral ones, where they fit (our choice).

    That is, both read the same stage and have the same shape. The last layer is taken over, too,
    where both predict the same target. Of a static clip of one cube, such a decoder then predicts
    at first what the ventral one predicts of the image.

    Args:
        ventral: :class:`Branch` on images.
        dorsal: :class:`Branch` on clips.
        indices: Which of the ventral decoders to start from.
    """
    taken = []
    decoders = getattr(dorsal.neck, 'decoders', ())
    for index in indices:
        if index >= len(decoders) or ventral.neck.stages[index] != dorsal.neck.stages[index]:
            continue
        source, decoder = ventral.neck.decoders[index], decoders[index]
        if not isinstance(decoder, StageDecoder) or type(decoder) is not type(source):
            continue
        target, same = dorsal.targets[index], ventral.names[index] == dorsal.names[index]
        if decoder.start_from_images(source, target if same else None):
            taken.append(dorsal.names[index])
    print_log(
        f'Dorsal decoders that start from the ventral ones: {", ".join(taken) or "none fits"}',
        'current',
    )
