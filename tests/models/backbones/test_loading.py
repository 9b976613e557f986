"""What a checkpoint gives an encoder: all of it, or a refusal that says why; inflated, deflated."""

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner.checkpoint import load_checkpoint
from torch import nn

from bimm_mm.models import BimmViT, SingleBranchPretrainer
from bimm_mm.models.backbones import inflate_patch_embedding

TINY = dict(embed_dims=24, depth=3, num_heads=2)
SETTINGS = dict(arch=TINY, img_size=16, patch_size=4, stage_ends=(1, 2, 3))


def encoder(frames=None, **kwargs) -> BimmViT:
    model = BimmViT(**(SETTINGS | dict(num_frames=frames) | kwargs))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.fixture
def joint(tmp_path):
    """A pretraining checkpoint with both branches' encoders, as far as loading is concerned."""
    kwargs = dict(out_type='raw', out_indices='stages')
    branches = dict(ventral=encoder(**kwargs), dorsal=encoder(4, **kwargs))
    state = {
        f'{name}.backbone.{key}': value
        for name, branch in branches.items()
        for key, value in branch.state_dict().items()
    }
    path = str(tmp_path / 'joint.pth')
    torch.save(dict(state_dict=state), path)
    return branches, path


class Model(BaseModel):
    """A model that has a backbone, as of any OpenMMLab library."""

    def __init__(self, backbone: BimmViT) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(24, 2)

    def forward(self, *args) -> None: ...


def start(checkpoint: str, prefix: str | None, frames=None, **kwargs) -> BimmViT:
    init_cfg = dict(type='Pretrained', checkpoint=checkpoint, prefix=prefix)
    model = encoder(frames, init_cfg=init_cfg, **kwargs)
    model.init_weights()
    return model


@pytest.mark.parametrize(
    'prefix, frames, kwargs, message',
    [
        (
            'dorsal.backbone.',
            None,
            {},
            r'this is an image encoder, and deflate=False, but the patch embedding is that of a '
            r'video encoder, \(24, 3, 2, 4, 4\)',
        ),
        (
            'ventral.backbone.',
            4,
            {},
            r'this is a video encoder, but the patch embedding is that of an image encoder, '
            r'\(24, 3, 4, 4\)',
        ),
        (
            'ventral.backbone.',
            None,
            dict(arch=dict(TINY, embed_dims=48)),
            'it is 24 wide, the encoder 48',
        ),
        (
            'ventral.backbone.',
            None,
            dict(arch=dict(TINY, mlp_ratio=2)),
            r'blocks.0.mlp.fc1.weight has shape \(96, 24\), the encoder needs \(48, 24\).* more',
        ),
        (
            'ventral.backbone.',
            None,
            dict(arch=dict(TINY, depth=2), stage_ends=(1, 2)),
            'it has 3 blocks, the encoder 2',
        ),
        (
            'ventral.backbone.',
            None,
            dict(arch=dict(TINY, depth=6), stage_ends=(1, 2, 6)),
            'it has 3 blocks, the encoder 6',
        ),
        ('ventral.backbone.', None, dict(patch_size=8), r'needs \(24, 3, 8, 8\)'),
        ('dorsal.backbone.', 4, dict(tubelet_size=4), r'needs \(24, 3, 4, 4, 4\)'),
        (None, None, {}, 'it has no weights for it'),
        ('backbone.', None, {}, 'backbone. is not in the pretrained model'),
        ('ventral.backbones.', None, {}, 'ventral.backbones. is not in the pretrained model'),
    ],
)
def test_a_checkpoint_that_is_not_the_encoders_is_refused(joint, prefix, frames, kwargs, message):
    with pytest.raises(ValueError, match=message) as error:
        start(joint[1], prefix, frames, **kwargs)
    text = str(error.value)
    assert text.startswith(f"init_cfg.checkpoint='{joint[1]}', prefix={prefix!r}: ")
    for part in ("an image encoder with prefix='ventral.backbone.'", 'a video encoder with prefix'):
        assert part in text


def test_weights_of_another_arch_are_called_by_its_name():
    state = BimmViT('tiny', img_size=16, patch_size=16, stage_ends=None).state_dict()
    with pytest.raises(ValueError, match=r"it is 192 wide, the encoder 384. Its arch is 'tiny'"):
        BimmViT('small', img_size=16, patch_size=16, stage_ends=None).load_state_dict(state)


def test_a_checkpoint_of_something_else(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'holds no BimmViT \(its first keys are weight, bias'):
        start(str(tmp_path / 'other.pth'), None)


@pytest.mark.parametrize('missing', ['cls_token', 'blocks.1.attn.proj.bias', 'patch_embed'])
def test_a_checkpoint_that_lacks_something(joint, missing):
    state = encoder().state_dict()
    state = {key: value for key, value in state.items() if not key.startswith(missing)}
    with pytest.raises(ValueError, match=f'{missing}.* is not in it'):
        encoder().load_state_dict(state, strict=False)


def test_positions_of_another_layout_are_refused():
    state = encoder().state_dict()
    state['pos_embed'] = torch.zeros(1, 17, 24)
    with pytest.raises(ValueError, match=r'pos_embed has shape \(1, 17, 24\), not \(1, T'):
        encoder().load_state_dict(state)


def test_refused_inside_of_any_model_however_it_is_loaded(joint, tmp_path):
    """As of ``load_from`` and ``resume``, which are not strict."""
    model = Model(encoder())
    refusal = (
        "does not fit the encoder 'backbone': it has no weights.*converted by: bimm import FILE"
    )
    with pytest.raises(ValueError, match=refusal):
        load_checkpoint(model, joint[1])
    torch.save(Model(encoder(4)).state_dict(), tmp_path / 'video.pth')
    with pytest.raises(ValueError, match="encoder 'backbone': this is an image encoder"):
        load_checkpoint(model, str(tmp_path / 'video.pth'))
    other = Model(encoder())
    torch.save(other.state_dict(), tmp_path / 'right.pth')
    load_checkpoint(model, str(tmp_path / 'right.pth'))
    wanted = other.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())


def test_a_single_branch_does_not_go_on_from_the_other(tmp_path, joint):
    branch = dict(
        backbone=dict(SETTINGS, type='BimmViT', stage_ends=(3,)),
        masking=dict(type='RandomMasking'),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[dict(type='LinearDecoder', embed_dims=12, predict='visible')],
        ),
        targets=[dict(type='PixelTarget')],
    )
    model = SingleBranchPretrainer(ventral=branch)
    state = {k: v for k, v in torch.load(joint[1])['state_dict'].items() if 'dorsal' in k}
    torch.save(state, tmp_path / 'dorsal.pth')
    with pytest.raises(ValueError, match="encoder 'ventral.backbone': it has no weights for it"):
        load_checkpoint(model, str(tmp_path / 'dorsal.pth'))


# images through the dorsal encoder ---------------------------------------------------------------


@pytest.mark.parametrize('out_type', ['raw', 'cls_token', 'avg_featmap'])
def test_an_image_is_a_static_clip(joint, out_type):
    model = start(joint[1], 'dorsal.backbone.', 8, static_images=True, out_type=out_type)
    image = torch.randn(2, 3, 16, 16)
    (feature,) = model(image)
    (wanted,) = model(image[:, :, None].repeat(1, 1, 8, 1, 1))
    torch.testing.assert_close(feature, wanted)
    if out_type == 'raw':
        assert feature.shape == (2, 1 + 4 * 16, 24)


@pytest.mark.parametrize('size, frames', [(16, 2), (24, 2), (16, 8)])
def test_deflated_features_are_those_of_a_static_clip_of_one_tubelet(joint, size, frames):
    """Whatever clip length the dorsal encoder was made for."""
    video = start(joint[1], 'dorsal.backbone.', frames, img_size=size, out_type='raw')
    image = start(joint[1], 'dorsal.backbone.', img_size=size, out_type='raw', deflate=True)
    x = torch.randn(2, 3, size, size)
    static = x[:, :, None].expand(-1, -1, 2, -1, -1)
    torch.testing.assert_close(image(x)[0], video(static)[0], rtol=1e-4, atol=1e-5)


def test_deflated_patches_are_those_of_a_static_clip_at_every_time(joint):
    """Tokens of one place differ in their time only, and the deflated one lies in the middle."""
    dorsal = joint[0]['dorsal']
    image = start(joint[1], 'dorsal.backbone.', deflate=True)
    x = torch.randn(1, 3, 16, 16)
    tokens, grid = dorsal.embed(x[:, :, None].expand(-1, -1, 4, -1, -1))
    deflated, _ = image.embed(x)
    places = tokens[:, 1:].view(1, *grid, 24) - dorsal.pos_embed
    for time in range(grid[0]):
        torch.testing.assert_close(
            deflated[:, 1:].view(1, 4, 4, 24) - image.pos_embed[:, 0],
            places[:, time],
            rtol=1e-4,
            atol=1e-5,
        )
    torch.testing.assert_close(image.pos_embed[:, 0], dorsal.pos_embed.mean(dim=1))
    assert torch.equal(image.cls_token, dorsal.cls_token)


def test_a_deflated_encoder_is_saved_and_loaded_as_any_other(joint):
    image = start(joint[1], 'dorsal.backbone.', deflate=True)
    x = torch.randn(1, 3, 16, 16)
    for deflate in (True, False):
        again = encoder(deflate=deflate)
        again.load_state_dict(image.state_dict())
        assert torch.equal(again(x)[0], image(x)[0])


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(static_images=True), 'static_images=True needs a video encoder'),
        (dict(num_frames=4, deflate=True), 'deflate=True needs an image encoder, not num_frames=4'),
    ],
)
def test_wrong_kind_of_encoder(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BimmViT(**SETTINGS, **kwargs)


def test_inflation_gives_the_weight_to_one_frame_or_divides_it():
    weight = torch.randn(5, 3, 4, 4)
    for frames in (1, 2, 3):
        center = inflate_patch_embedding(weight, frames)
        assert torch.equal(center[:, :, frames // 2], weight)
        assert center.count_nonzero() == weight.numel()
        mean = inflate_patch_embedding(weight, frames, 'mean')
        assert center.shape == mean.shape == (5, 3, frames, 4, 4)
        torch.testing.assert_close(mean.sum(dim=2), weight)
        assert torch.equal(mean[:, :, 0], mean[:, :, -1])
    with pytest.raises(ValueError, match="mode='first' must be 'center' or 'mean'"):
        inflate_patch_embedding(torch.zeros(5, 3, 4, 4), 2, 'first')
