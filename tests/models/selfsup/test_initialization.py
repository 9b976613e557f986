import pytest
import torch
from torch import nn

from bimm_mm.models import BimmViT, SingleBranchPretrainer
from bimm_mm.models.selfsup import load_ventral_encoder

ARCH = dict(embed_dims=24, depth=3, num_heads=2)


def encoder(frames=None, **kwargs):
    settings = dict(arch=ARCH, img_size=16, patch_size=4, stage_ends=(1, 2, 3), out_type='raw')
    return BimmViT(**(settings | dict(out_indices='stages', num_frames=frames) | kwargs))


def randomise(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    return module


@pytest.fixture
def checkpoint(tmp_path, make_branch):
    """A pretrainer of the ventral stage and its file."""
    model = randomise(SingleBranchPretrainer(ventral=make_branch(video=False)))
    path = str(tmp_path / 'ventral.pth')
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return model, path


def test_unknown_settings():
    with pytest.raises(ValueError, match="inflation='first' must be 'center' or 'mean'"):
        encoder(frames=4, inflation='first')
    with pytest.raises(ValueError, match="time_positions='no' must be 'added' or 'divided' or"):
        encoder(frames=4, time_positions='no')


@pytest.mark.parametrize('size', [16, 24])
def test_clips_have_the_places_of_the_checkpoint(tmp_path, size):
    """Also where they are not BIMM's, and of another grid."""
    image = encoder(img_size=size)
    image.pos_embed = torch.randn_like(image.pos_embed)
    torch.save(dict(state_dict=image.state_dict()), tmp_path / 'image.pth')
    video, plain = encoder(frames=4), encoder()
    code = video.pos_embed - plain.pos_embed
    for backbone in (video, plain):
        load_ventral_encoder(backbone, str(tmp_path / 'image.pth'))
    torch.testing.assert_close(video.pos_embed, plain.pos_embed + code)
    assert (plain.pos_embed - encoder().pos_embed).abs().max() > 0.1
    timeless = encoder(frames=4, time_positions='none')
    load_ventral_encoder(timeless, str(tmp_path / 'image.pth'))
    assert torch.equal(timeless.pos_embed, plain.pos_embed.expand_as(video.pos_embed))
    divided = encoder(frames=4, time_positions='divided')
    own = divided.pos_embed.clone()
    load_ventral_encoder(divided, str(tmp_path / 'image.pth'))
    assert torch.equal(divided.pos_embed, own)


def test_a_static_clip_gives_the_images_tokens(checkpoint):
    model, path = checkpoint
    video = encoder(frames=4)
    load_ventral_encoder(video, path)
    image = torch.randn(2, 3, 16, 16)
    wanted = model.ventral.backbone.patch_embed(image[:, :, None])
    tokens = video.patch_embed(image[:, :, None].expand(-1, -1, 4, -1, -1))
    torch.testing.assert_close(tokens, wanted.repeat(1, 2, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('frames', [None, 4])
def test_all_but_patch_embedding_and_positions_is_taken_over(checkpoint, frames):
    model, path = checkpoint
    backbone = encoder(frames=frames)
    positions = backbone.pos_embed.clone()
    load_ventral_encoder(backbone, path)
    own, source = backbone.state_dict(), model.ventral.backbone.state_dict()
    torch.testing.assert_close(own.pop('pos_embed'), positions)
    own.pop('patch_embed.projection.weight')
    assert len(own) > 40
    assert all(torch.equal(value, source[key]) for key, value in own.items())


def test_positions_of_an_image_encoder_of_another_size_are_interpolated(checkpoint):
    backbone = encoder(img_size=32)
    load_ventral_encoder(backbone, checkpoint[1])
    assert backbone.pos_embed.shape == (1, 1, 8, 8, 24)


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_checkpoints_of_plain_encoders_and_downstream_models(tmp_path, prefix):
    source = randomise(encoder(out_indices=None))
    state = {prefix + key: value for key, value in source.state_dict().items()}
    if prefix:
        state['cls_head.weight'] = torch.zeros(2, 2)
    torch.save(state, tmp_path / 'plain.pth')
    backbone = encoder(frames=4)
    load_ventral_encoder(backbone, str(tmp_path / 'plain.pth'))
    assert torch.equal(backbone.blocks[1].mlp.fc1.weight, source.blocks[1].mlp.fc1.weight)
    assert torch.equal(backbone.norm2.weight, source.norm2.weight)
    assert torch.equal(backbone.norm0.weight, torch.ones(24))  # not in the checkpoint


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='missing.pth'):
        load_ventral_encoder(encoder(), str(tmp_path / 'missing.pth'))


def test_a_file_of_mae_is_refused_with_the_command_that_imports_it(tmp_path):
    torch.save(
        dict(model={'patch_embed.proj.weight': torch.ones(16, 3, 4, 4)}), tmp_path / 'mae.pth'
    )
    with pytest.raises(ValueError, match=r'MAE.* are converted by: bimm import FILE NEW\.pth'):
        load_ventral_encoder(encoder(), str(tmp_path / 'mae.pth'))


def test_a_checkpoint_of_a_dorsal_branch_alone(tmp_path, make_branch):
    path = str(tmp_path / 'dorsal.pth')
    model = SingleBranchPretrainer(dorsal=make_branch(video=True))
    torch.save(dict(state_dict=model.state_dict()), path)
    with pytest.raises(ValueError, match=f"checkpoint '{path}' holds no image encoder"):
        load_ventral_encoder(encoder(frames=4), path)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(arch=dict(ARCH, embed_dims=48)), 'it is 24 wide, the encoder 48'),
        (dict(arch=dict(ARCH, depth=4), stage_ends=(1, 2, 4)), 'it has 3 blocks, the encoder 4'),
        (dict(arch=dict(ARCH, depth=2), stage_ends=(1, 2)), 'it has 3 blocks, the encoder 2'),
        (dict(with_cls_token=False), r"and has \['cls_token'\] besides"),
        (dict(patch_size=8), r'needs \(24, 3, 2, 8, 8\)'),
    ],
)
def test_a_checkpoint_that_does_not_fit(checkpoint, kwargs, message):
    path = checkpoint[1]
    with pytest.raises(ValueError, match=f"checkpoint '{path}'.* does not fit") as error:
        load_ventral_encoder(encoder(frames=4, **kwargs), path)
    assert error.match(message)
