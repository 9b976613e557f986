"""Several clips from a video that is opened and decoded once."""

import numpy as np
import torch
from mmengine.dataset import Compose

from .loading import is_video_init

DECODERS = ('VideoDecode', 'DecordDecode')


def repeat_clips(pipeline: Compose, info: dict, num_repeats: int) -> dict:
    """Run a pipeline ``num_repeats`` times on one video, and decode it once.

    What comes before VideoDecode, but for the opening of the file, and what comes after it runs
    for each clip, so that each has frames and a crop of its own. Frames that several clips have in
    common are decoded once, and all of them in the order of the video. Source: repeated sampling
    (Hoffer et al., 2020), as MAE-ST (Feichtenhofer et al., 2022) has it in pretraining; how frames
    are read is our choice.

    Args:
        pipeline: Starts with VideoInit; a sampler, VideoDecode and FormatShape follow. mmaction2's
            DecordInit and DecordDecode will do as well.
        info: The video, as the data set has it.
        num_repeats: Clips, R.

    Returns:
        ``inputs`` (R, C, T, H, W), and the other entries of the first clip; in its data sample
        ``codes``, where there are any, are those of all clips.

    Raises:
        ValueError: The pipeline does not start by opening a video, or does not decode it.
    """
    sample, decode, rest = split(pipeline)
    opened = pipeline.transforms[0](info)
    clips = []
    for _ in range(num_repeats):
        clip = dict(opened)
        for transform in sample:
            clip = transform(clip)
        clips.append(clip)
    inds = [np.ravel(clip['frame_inds']) for clip in clips]
    # frames that two clips have in common come out twice: transforms like Flip work in place
    decoded = decode(dict(opened, frame_inds=np.concatenate(inds)))
    frames = decoded.pop('imgs')
    samples, begin = [], 0
    for clip, numbers in zip(clips, inds, strict=True):
        imgs, begin = frames[begin : begin + len(numbers)], begin + len(numbers)
        clip = decoded | clip | dict(imgs=imgs, frame_inds=numbers, video_reader=None)
        for transform in rest:
            clip = transform(clip)
        samples.append(clip)
    _stack_arrays(samples)
    inputs = [sample['inputs'].reshape(-1, *sample['inputs'].shape[-4:]) for sample in samples]
    return dict(samples[0], inputs=concatenate(inputs))


def concatenate(parts: list[torch.Tensor]) -> torch.Tensor:
    """As torch.cat along the first axis, with the others in memory as they are in the parts.

    FormatShape leaves channels last in memory. torch.cat would put them first, which takes a core
    1 ms per clip, and a GPU next to nothing.
    """
    order = [0, *sorted(range(1, parts[0].dim()), key=parts[0].stride, reverse=True)]
    whole = torch.cat([part.permute(order) for part in parts])
    return whole.permute(np.argsort(order).tolist())


def _stack_arrays(samples: list[dict]) -> None:
    """Give the data sample of the first clip the arrays of all clips, as motion vectors.

    Where some clips have none, as of codes, a list with None in their places.
    """
    parts = [sample['data_samples'] for sample in samples if 'data_samples' in sample]
    for name in parts[0].metainfo_keys() if parts else ():
        values = [part.get(name) for part in parts]
        if any(isinstance(value, np.ndarray) for value in values):
            whole = all(value is not None for value in values)
            parts[0].set_metainfo({name: np.stack(values) if whole else values})


def decode_once(pipeline: Compose, info: dict) -> tuple[dict, list]:
    """Run a pipeline up to the decoded frames.

    Args:
        pipeline: As :func:`repeat_clips`.
        info: The video.

    Returns:
        What the pipeline has made so far, and the transforms that remain.

    Raises:
        ValueError: As :func:`repeat_clips`.
    """
    sample, decode, rest = split(pipeline)
    for transform in (pipeline.transforms[0], *sample, decode):
        info = transform(info)
    return info, rest


def split(pipeline: Compose) -> tuple[list, object, list]:
    """The transforms between opening and decoding a video, the decoding one, and what follows."""
    transforms = pipeline.transforms
    names = [type(transform).__name__ for transform in transforms]
    decode = next((i for i, name in enumerate(names) if name in DECODERS), None)
    if decode is None or not is_video_init(transforms[0]):
        raise ValueError(
            'several clips of a video need a pipeline of VideoInit, a sampler of frames, '
            f'VideoDecode and what follows, but got {", ".join(names) or "an empty one"}'
        )
    return transforms[1:decode], transforms[decode], transforms[decode + 1 :]
