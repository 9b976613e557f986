"""Draw one of a sample's captions."""

import random
import re

from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

SIDES = re.compile(r'\b(left|right)\b', re.IGNORECASE)


@TRANSFORMS.register_module()
class LoadCaption(BaseTransform):
    """Draw one of the captions of a video, anew each time (TGM: one of three).

    To be placed after Flip. Where a clip was flipped, 'left' and 'right' change places in the
    caption (our choice). Does nothing for a sample without ``captions``: its data set has no
    ``caption_file``. ``PackActionInputs`` hands the caption on, with ``meta_keys=('caption',)``.

    Required key: ``captions`` (set by the data set), a list; ``flip`` and ``flip_direction`` of
    mmaction2 where there are any. Added key: ``caption``, '' for a video without captions.

    Args:
        swap_sides: Whether 'left' and 'right' change places in captions of flipped clips.
    """

    def __init__(self, swap_sides: bool = True) -> None:
        self.swap_sides = swap_sides

    def transform(self, results: dict) -> dict:
        """Draw it."""
        if 'captions' not in results:
            return results
        captions = results['captions']
        caption = random.choice(captions) if captions else ''
        if self.swap_sides and results.get('flip') and results['flip_direction'] == 'horizontal':
            caption = SIDES.sub(_other_side, caption)
        results['caption'] = caption
        return results


def _other_side(match: re.Match) -> str:
    word = match[0]
    other = 'right' if word.lower() == 'left' else 'left'
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
