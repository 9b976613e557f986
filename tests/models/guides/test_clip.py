import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('transformers', reason='needs transformers')
sys.path.insert(0, str(Path(__file__).parents[2]))
from small_clip import write_clip  # noqa: E402

from bimm_mm.models.guides import ClipGuide, ClipTextEncoder  # noqa: E402
from bimm_mm.models.guides.clip import MEAN, STD, load_clip  # noqa: E402


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp('clip') / 'clip')


def draw_clips(size=16):
    return torch.rand(2, 3, 4, size, size, generator=torch.Generator().manual_seed(0))


def test_texts_and_class_token_are_transformers_own(folder):
    """The patches' way into the joint space is the class token's: ours gives the same."""
    clip = load_clip(folder)
    texts = ['a dotted star moves left', 'a ring']
    tokens = clip.tokenizer(texts, padding=True, return_tensors='pt')
    pixels = draw_clips()[:, :, 0]
    normalized = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        wanted = clip.network(**tokens, pixel_values=normalized)
        vision = clip.network.vision_model(normalized)
        own = vision.last_hidden_state.clone()
        own[:, 1] = own[:, 0]  # a patch in the class token's place
        projected = clip.network.visual_projection(
            clip.network.vision_model.post_layernorm(own[:, 1])
        )
    torch.testing.assert_close(clip.embed(texts, 'cpu'), wanted.text_embeds)
    torch.testing.assert_close(F.normalize(projected, dim=-1), wanted.image_embeds)
    patches = clip.embed_patches(pixels, (16, 16))
    hidden = clip.network.vision_model.post_layernorm(vision.last_hidden_state[:, 1:])
    wanted = F.normalize(clip.network.visual_projection(hidden), dim=-1)
    torch.testing.assert_close(patches.flatten(1, 2), wanted)


def test_a_text_has_one_embedding_in_whatever_company(folder):
    """To the bit: a resumed run meets captions in other batches."""
    texts = [f'caption number {i}' for i in range(40)]
    clip = load_clip(folder)
    clip._known.clear()
    together = clip.embed(texts, 'cpu')
    clip._known.clear()
    alone = torch.cat([clip.embed([text], 'cpu') for text in reversed(texts)]).flip(0)
    assert torch.equal(together, alone)


def test_only_so_many_embeddings_are_kept(folder):
    clip = load_clip(folder)
    clip._known.clear()
    clip.remember = 3
    found = clip.embed(['a', 'b', 'c', 'd', 'a'], 'cpu')
    assert list(clip._known) == ['b', 'c', 'd'] and torch.equal(found[0], found[4])
    clip.remember = 65536


def test_a_clip_is_loaded_once_for_all_that_use_it(folder):
    guide, text = ClipGuide(folder), ClipTextEncoder(folder)
    assert guide.clip is text.clip
    assert not guide.state_dict() and not list(guide.parameters())


@pytest.mark.parametrize('settings', [{}, dict(input_size=8), dict(dense='value')])
def test_the_map_fits_the_grid(folder, settings):
    guide = ClipGuide(folder, **settings)
    similarity = guide(draw_clips(24), ['a star', 'a ring'], (2, 6, 6))
    assert similarity.shape == (2, 2, 6, 6)
    assert similarity.abs().max() <= 1 and similarity.std() > 0


def test_two_frames_are_averaged_or_the_first_is_taken(folder):
    clips, captions = draw_clips(), ['a star', 'a ring']
    each = ClipGuide(folder)(clips, captions, (4, 4, 4)).unflatten(1, (2, 2))
    mean = ClipGuide(folder)(clips, captions, (2, 4, 4))
    first = ClipGuide(folder, frames='first')(clips, captions, (2, 4, 4))
    torch.testing.assert_close(mean, each.mean(dim=2))
    torch.testing.assert_close(first, each[:, :, 0])


def test_values_keep_what_is_in_another_patch_out_of_the_last_block(folder):
    """With one block, a patch's feature does not depend on any other patch."""
    clip = load_clip(folder)
    layers = clip.network.vision_model.encoder.layers
    clip.network.vision_model.encoder.layers = layers[:1]
    frames = draw_clips()[:, :, 0]
    changed = frames.clone()
    changed[:, :, 8:] = 0
    try:
        for dense, alike in (('value', True), ('raw', False)):
            before, after = (clip.embed_patches(x, (16, 16), dense) for x in (frames, changed))
            assert torch.allclose(before[:, 0], after[:, 0], atol=1e-6) is alike
    finally:
        clip.network.vision_model.encoder.layers = layers


def test_what_is_wrong_is_said(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match='no CLIP there.*clip-vit-base-patch32'):
        ClipGuide(tmp_path / 'nothing').init_weights()
    with pytest.raises(ValueError, match="dense='values' must be 'raw' or 'value'"):
        ClipGuide(folder, dense='values')
    with pytest.raises(ValueError, match='input_size=15 must be a multiple'):
        ClipGuide(folder, input_size=15)(draw_clips(), ['a', 'b'], (2, 4, 4))
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken/config.json').write_text('{"model_type": "clip"}')
    with pytest.raises(ValueError, match='cannot be read'):
        load_clip(tmp_path / 'broken')
