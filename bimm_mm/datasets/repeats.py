"""Several clips from a video that is opened and decoded once."""

import numpy as np
import torch
from mmaction.datasets.transforms import DecordInit
from mmengine.dataset import Compose


def repeat_clips(pipeline: Compose, info: dict, num_repeats: int) -> dict:
    """Run a pipeline ``num_repeats`` times on one video, and decode it once.

    What comes before DecordDecode, but for the opening of the file, and what comes after it runs
    for each clip, so that each has frames and a crop of its own. Frames that several clips have in
    common are decoded once, and all of them in the order of the video. Source: repeated sampling
    (Hoffer et al., 2020), as MAE-ST (Feichtenhofer et al., 2022) has it in pretraining; how frames
    are read is our choice.

    Args:
        pipeline: Starts with DecordInit; DecordDecode follows, and FormatShape.
        info: The video, as the data set has it.
        num_repeats: Clips, R.

    Returns:
        ``inputs`` (R, C, T, H, W), and the other entries of the first clip.

    Raises:
        ValueError: The pipeline does not start with DecordInit (or AvInit), or lacks DecordDecode.
    """
    transforms = pipeline.transforms
    names = [type(transform).__name__ for transform in transforms]
    if 'DecordDecode' not in names or not isinstance(transforms[0], DecordInit):
        raise ValueError(
            'num_repeats > 1 needs a pipeline of DecordInit, a sampler of frames, DecordDecode '
            f'and what follows, but got {", ".join(names) or "an empty one"}'
        )
    decode = names.index('DecordDecode')
    opened = transforms[0](info)
    clips = []
    for _ in range(num_repeats):
        clip = dict(opened)
        for transform in transforms[1:decode]:
            clip = transform(clip)
        clips.append(clip)
    frames, places = np.unique(
        np.stack([clip['frame_inds'] for clip in clips]), return_inverse=True
    )
    decoded = transforms[decode](dict(opened, frame_inds=frames))
    samples = []
    for clip, place in zip(clips, places.reshape(num_repeats, -1), strict=True):
        # a copy, since transforms like Flip change the frames in place
        clip = decoded | clip | dict(imgs=[decoded['imgs'][i].copy() for i in place])
        clip['video_reader'] = None
        for transform in transforms[decode + 1 :]:
            clip = transform(clip)
        samples.append(clip)
    inputs = [sample['inputs'].reshape(-1, *sample['inputs'].shape[-4:]) for sample in samples]
    return dict(samples[0], inputs=torch.cat(inputs))
