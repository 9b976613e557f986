"""From a published tokenizer to one small file."""

import os
from pathlib import Path

from ...utils.checkpoint import save_whole
from ...version import __version__
from .dalle import convert_dalle
from .files import file_checksum, read_tensors
from .vqgan import convert_vqgan

CONVERTERS = dict(DalleTokenizer=convert_dalle, VqganTokenizer=convert_vqgan)


def convert_tokenizer(source: str | os.PathLike, target: str | os.PathLike) -> dict:
    """Write the encoder of a published tokenizer into a file that holds nothing else.

    Which tokenizer it is, the names of the weights tell.

    Args:
        source: ``encoder.pkl`` of DALL·E, ``dalle_encoder.pth`` of mmpretrain, a folder or file
            of transformers' ``FlavaImageCodebook``, or a checkpoint of taming-transformers.
        target: File to write, whole or not at all; one that is there is replaced.

    Returns:
        ``type``, the tokenizer that loads it, ``num_tensors``, ``num_parameters`` and
        ``sha256``, the checksum of ``target``.

    Raises:
        FileNotFoundError: If there is no ``source``.
        ValueError: If it is broken or of no known tokenizer.
        OSError: If ``target`` cannot be written.
    """
    tensors = read_tensors(source)
    reasons = []
    for kind, convert in CONVERTERS.items():
        try:
            state, tokenizer = convert(tensors), kind
            break
        except ValueError as error:
            reasons.append(str(error))
    else:
        raise ValueError(f'{source} is of no known tokenizer: {"; ".join(reasons)}')
    # clones: a view would take the storage that it is part of along
    state = {key: value.detach().clone().contiguous() for key, value in state.items()}
    meta = dict(
        tokenizer=tokenizer,
        source=Path(source).name,
        source_sha256=file_checksum(source),
        bimm_mm_version=__version__,
    )
    save_whole(dict(meta=meta, state_dict=state), target)
    return dict(
        type=tokenizer,
        num_tensors=len(state),
        num_parameters=sum(value.numel() for value in state.values()),
        sha256=file_checksum(target),
    )
