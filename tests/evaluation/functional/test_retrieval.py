import pytest
import torch

from bimm_mm.evaluation.functional.retrieval import text_to_video


def test_recalls_and_ranks_of_a_known_order():
    texts = torch.eye(3)[[0, 1, 2, 0]]
    # for text 0 videos 1, 3 come first, of which 3 is right; for 1 video 1; for 2 the last one
    videos = torch.tensor([[0.1, 1, 1], [3, 4, 0], [-1, -1, -5], [2, 0, 3.0]])
    found = text_to_video(videos, texts, ['a', 'b', 'c', 'a'])
    assert (found.captions, found.videos) == (3, 4)
    assert found.recall[1] == pytest.approx(1 / 3)  # only b
    assert found.recall[5] == 1
    assert found.median_rank == 2


def test_videos_in_random_order_are_found_as_often_as_chance_says():
    torch.manual_seed(0)
    captions = [f'caption {i % 20}' for i in range(60)]
    found = [
        text_to_video(torch.randn(60, 8), torch.randn(60, 8), captions).recall[5] for _ in range(60)
    ]
    chance = text_to_video(torch.randn(60, 8), torch.randn(60, 8), captions).chance
    assert abs(sum(found) / 60 - chance[5]) < 0.03
    assert chance[1] == pytest.approx(3 / 60)
    with pytest.raises(ValueError, match='no videos'):
        text_to_video(torch.zeros(0, 8), torch.zeros(0, 8), [])
