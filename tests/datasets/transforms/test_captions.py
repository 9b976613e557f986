import random
from collections import Counter

import pytest

from bimm_mm.datasets.transforms import LoadCaption


def test_one_caption_is_drawn_each_time():
    random.seed(0)
    texts = ['a cat', 'a dog', 'a bird']
    drawn = Counter(LoadCaption()(dict(captions=texts))['caption'] for _ in range(300))
    assert set(drawn) == set(texts) and min(drawn.values()) > 70


def test_a_video_without_captions_gets_an_empty_one():
    assert LoadCaption()(dict(captions=[]))['caption'] == ''
    assert 'caption' not in LoadCaption()(dict(label=1))


@pytest.mark.parametrize(
    ('flip', 'swap', 'wanted'),
    [
        (True, True, 'Right, the man moves LEFT, leftover'),
        (False, True, 'Left, the man moves RIGHT, leftover'),
        (True, False, 'Left, the man moves RIGHT, leftover'),
    ],
)
def test_left_and_right_change_places_in_a_flipped_clip(flip, swap, wanted):
    results = dict(captions=['Left, the man moves RIGHT, leftover'], flip=flip)
    results['flip_direction'] = 'horizontal'
    assert LoadCaption(swap)(results)['caption'] == wanted
