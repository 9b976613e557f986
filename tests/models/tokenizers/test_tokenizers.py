import importlib.util
import pickle
import runpy
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS

from bimm_mm.models.targets.base import IMAGENET_MEAN, IMAGENET_STD
from bimm_mm.models.tokenizers import DalleTokenizer, PatchTokenizer, VqganTokenizer
from bimm_mm.models.tokenizers.conversion import convert_tokenizer
from bimm_mm.models.tokenizers.files import file_checksum, read_tensors

PUBLISHED = runpy.run_path(str(Path(__file__).parents[2] / 'published_tokenizers.py'))
save_dalle, save_vqgan = PUBLISHED['save_dalle'], PUBLISHED['save_vqgan']
vqgan_codes = PUBLISHED['vqgan_codes']

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec('transformers') is None, reason='transformers is not installed'
)


def normalize(pixels):
    """uint8 RGB, channels at axis 1, to what the preprocessor makes of it."""
    shape = (1, 3, *(1,) * (pixels.dim() - 2))
    mean, std = (torch.tensor(v).view(shape) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (pixels.float() - mean) / std


def random_clips(*shape, seed=0):
    """Noise on squares of 8 pixels with colors of their own, so that codes differ."""
    generator = torch.Generator().manual_seed(seed)
    *others, height, width = shape
    colors = torch.rand(*others, -(-height // 8), -(-width // 8), generator=generator).mul(200)
    colors = colors.repeat_interleave(8, -2).repeat_interleave(8, -1)[..., :height, :width]
    return (colors + torch.rand(shape, generator=generator).mul(55)).to(torch.uint8)


def save_codebook(path, side=4, num_codes=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(num_codes, 3 * side**2, generator=generator)
    torch.save(dict(state_dict=dict(centers=centers)), path)
    return centers


@needs_transformers
@pytest.mark.parametrize('zipped', [True, False])
def test_the_published_pickle_gives_the_arg_max_of_its_own_logits(tmp_path, zipped):
    path = tmp_path / 'encoder.pkl'
    encoder = save_dalle(path, zipped)
    clip = random_clips(2, 3, 3, 32, 48)
    frames = clip.transpose(1, 2).flatten(0, 1).float() / 255
    with torch.no_grad():
        wanted = encoder(0.8 * frames + 0.1).argmax(dim=1).view(2, 3, 4, 6)
    tokenizer = DalleTokenizer(path, num_codes=40)
    codes = tokenizer(normalize(clip))
    assert (codes.dtype, tokenizer.factor, tokenizer.num_codes) == (torch.int64, 8, 40)
    assert len(wanted.unique()) > 3
    assert torch.equal(codes, wanted)


@needs_transformers
def test_a_flava_folder_and_a_converted_file_give_the_same_codes_as_the_pickle(tmp_path):
    pytest.importorskip('safetensors')
    save_dalle(tmp_path / 'encoder.pkl')
    tokenizer = DalleTokenizer(tmp_path / 'encoder.pkl', num_codes=40)
    tokenizer.network.save_pretrained(tmp_path / 'flava')
    made = convert_tokenizer(tmp_path / 'encoder.pkl', tmp_path / 'dalle.pth')
    x = normalize(random_clips(2, 3, 32, 32))
    for path in (tmp_path / 'flava', tmp_path / 'flava' / 'model.safetensors'):
        assert torch.equal(DalleTokenizer(path, num_codes=40)(x), tokenizer(x))
    assert made['type'] == 'DalleTokenizer'
    config = dict(type=made['type'], checkpoint=str(tmp_path / 'dalle.pth'), num_codes=40)
    converted = MODELS.build(config | dict(sha256=made['sha256']))
    assert torch.equal(converted(x), tokenizer(x))


@pytest.mark.parametrize('gumbel', [True, False])
def test_a_taming_checkpoint_gives_the_codes_of_the_equations(tmp_path, gumbel):
    state = save_vqgan(tmp_path / 'last.ckpt', gumbel)
    clip = random_clips(2, 3, 2, 24, 16)
    frames = clip.transpose(1, 2).flatten(0, 1).float() / 127.5 - 1
    wanted = vqgan_codes(state, frames).view(2, 2, 6, 4)
    tokenizer = VqganTokenizer(tmp_path / 'last.ckpt')
    assert (tokenizer.factor, tokenizer.num_codes) == (4, 30)
    assert len(wanted.unique()) > 3
    assert torch.equal(tokenizer(normalize(clip)), wanted)


def test_a_converted_vqgan_is_smaller_and_gives_the_same_codes(tmp_path):
    save_vqgan(tmp_path / 'last.ckpt', gumbel=True)
    made = convert_tokenizer(tmp_path / 'last.ckpt', tmp_path / 'vqgan.pth')
    x = normalize(random_clips(1, 3, 16, 16))
    assert made['type'] == 'VqganTokenizer'
    assert made['sha256'] == file_checksum(tmp_path / 'vqgan.pth')
    assert torch.equal(
        VqganTokenizer(tmp_path / 'vqgan.pth')(x), VqganTokenizer(tmp_path / 'last.ckpt')(x)
    )
    names = set(read_tensors(tmp_path / 'vqgan.pth'))
    assert not any(name.startswith(('decoder', 'loss', 'quantize.embed.')) for name in names)


@pytest.mark.parametrize('gumbel', [True, False])
def test_codes_do_not_depend_on_the_call_the_mode_or_the_frames_at_once(tmp_path, gumbel):
    save_vqgan(tmp_path / 'last.ckpt', gumbel)
    tokenizer = VqganTokenizer(tmp_path / 'last.ckpt')
    x = normalize(random_clips(2, 3, 3, 16, 16))
    codes = tokenizer(x)
    assert torch.equal(tokenizer.train()(x), codes)
    few = VqganTokenizer(tmp_path / 'last.ckpt', frames_at_once=2)
    assert torch.equal(few(x), codes)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(tokenizer(x), codes)


def test_the_network_is_neither_trained_nor_saved(tmp_path):
    save_vqgan(tmp_path / 'last.ckpt')
    tokenizer = VqganTokenizer(tmp_path / 'last.ckpt').train()
    assert not list(tokenizer.parameters()) and not tokenizer.state_dict()
    assert not tokenizer.network.training
    x = normalize(random_clips(1, 3, 16, 16)).requires_grad_()
    assert not tokenizer(x).requires_grad


def test_the_preprocessors_mean_and_deviation_are_undone(tmp_path):
    centers = save_codebook(tmp_path / 'codebook.pth')
    pixels = random_clips(2, 3, 3, 8, 12)
    patches = pixels.view(2, 3, 3, 2, 4, 3, 4).permute(0, 2, 3, 5, 1, 4, 6).flatten(4) / 255
    wanted = torch.cdist(patches.flatten(0, 3), centers).argmin(dim=1).view(2, 3, 2, 3)
    for mean, std in ((IMAGENET_MEAN, IMAGENET_STD), ((0, 10, 127.5), (255, 1.0, 127.5))):
        shape = (1, 3, 1, 1, 1)
        x = (pixels - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
        tokenizer = PatchTokenizer(tmp_path / 'codebook.pth', mean=mean, std=std)
        assert torch.equal(tokenizer(x), wanted)


def test_frames_are_reduced_to_the_grid_of_the_encoder(tmp_path):
    """112 pixels for factor 8 and 224 for factor 16 both give a grid of 14 x 14."""
    for factor, size in ((8, 112), (16, 224)):
        save_codebook(tmp_path / 'codebook.pth', side=factor)
        tokenizer = PatchTokenizer(tmp_path / 'codebook.pth')
        x = normalize(random_clips(1, 3, 224, 224))
        assert tokenizer(x, grid=(14, 14)).shape == (1, 14, 14)
        assert tokenizer.input_size((224, 224), (14, 14)) == (size, size)
    with pytest.raises(ValueError, match='448x448 pixels, and these have 224x224'):
        tokenizer(x, grid=(28, 28))
    with pytest.raises(ValueError, match='another aspect ratio than the grid of 7x14'):
        tokenizer(x, grid=(7, 14))


def test_a_size_that_does_not_fit_is_refused_with_one_that_does(tmp_path):
    save_codebook(tmp_path / 'codebook.pth')
    tokenizer = PatchTokenizer(tmp_path / 'codebook.pth')
    with pytest.raises(ValueError, match='30x32 pixels .* whole codes of 4 pixels; 32x32 would'):
        tokenizer(torch.zeros(1, 3, 30, 32))
    with pytest.raises(ValueError, match=r'must be \(B, 3, H, W\)'):
        tokenizer(torch.zeros(1, 4, 32, 32))


class Evil:
    """Creates a file where it is unpickled by something that runs code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, 'w'))


@pytest.mark.parametrize('zipped', [True, False])
def test_no_code_in_a_file_is_run(tmp_path, zipped):
    path, mark = tmp_path / 'evil.ckpt', tmp_path / 'was_here'
    state = save_vqgan(tmp_path / 'last.ckpt')
    content = dict(state_dict=state, callbacks=Evil(str(mark)))
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert set(read_tensors(path)) == set(state)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Evil(str(mark))))
    assert mark.exists()  # a plain unpickler would have run it


def test_a_script_archive_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / 'script.pt'))
    with pytest.raises(ValueError, match='TorchScript archive, which holds code'):
        read_tensors(tmp_path / 'script.pt')


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint .*missing.*taming-transformers'):
        VqganTokenizer(tmp_path / 'missing.ckpt')
    with pytest.raises(ValueError, match='PatchTokenizer needs checkpoint=.*bimm make-codebook'):
        PatchTokenizer('')
    (tmp_path / 'broken.ckpt').write_bytes(b'no pickle')
    with pytest.raises(ValueError, match='broken.ckpt is not a file of weights, or broken'):
        VqganTokenizer(tmp_path / 'broken.ckpt')
    torch.save(dict(weight=torch.zeros(2)), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='no VQGAN of taming-transformers'):
        VqganTokenizer(tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='is not a codebook of patches'):
        PatchTokenizer(tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='of no known tokenizer'):
        convert_tokenizer(tmp_path / 'other.pth', tmp_path / 'out.pth')
    state = save_vqgan(tmp_path / 'last.ckpt')
    del state['encoder.mid.attn_1.q.weight']
    torch.save(dict(state_dict=state), tmp_path / 'part.ckpt')
    with pytest.raises(ValueError, match='does not fit the tokenizer: .*attn_1.q.weight'):
        VqganTokenizer(tmp_path / 'part.ckpt')


def test_a_model_can_be_built_without_the_file_where_the_sizes_are_known(tmp_path):
    path = tmp_path / 'last.ckpt'
    tokenizer = VqganTokenizer(path, num_codes=30, factor=4)
    with pytest.raises(FileNotFoundError, match='no checkpoint .*last.ckpt'):
        tokenizer.init_weights()
    with pytest.raises(FileNotFoundError, match='no checkpoint .*last.ckpt'):
        tokenizer(torch.zeros(1, 3, 16, 16))
    save_vqgan(path)
    assert tokenizer(torch.zeros(1, 3, 16, 16)).shape == (1, 4, 4)
    with pytest.raises(ValueError, match='num_codes=31, but .*last.ckpt has 30'):
        VqganTokenizer(path, num_codes=31)
    with pytest.raises(ValueError, match='factor=8, but .*last.ckpt has 4'):
        VqganTokenizer(path, num_codes=30, factor=8)


def test_another_checksum_is_refused(tmp_path):
    save_codebook(tmp_path / 'codebook.pth')
    good = file_checksum(tmp_path / 'codebook.pth')
    PatchTokenizer(tmp_path / 'codebook.pth', sha256=good.upper())
    with pytest.raises(ValueError, match=f'has the SHA-256 {good}, but sha256='):
        PatchTokenizer(tmp_path / 'codebook.pth', sha256='0' * 64)


def test_diffusers_models_give_their_own_codes(tmp_path):
    diffusers = pytest.importorskip('diffusers')
    from bimm_mm.models.tokenizers import DiffusersTokenizer

    torch.manual_seed(0)
    model = diffusers.VQModel(
        down_block_types=('DownEncoderBlock2D',) * 2,
        up_block_types=('UpDecoderBlock2D',) * 2,
        block_out_channels=(32, 32),
        num_vq_embeddings=20,
    ).eval()
    model.save_pretrained(tmp_path / 'vq')
    pixels = random_clips(2, 3, 16, 24)
    latents = model.encode(pixels / 127.5 - 1).latents
    differences = latents[:, None] - model.quantize.embedding.weight[None, :, :, None, None]
    tokenizer = DiffusersTokenizer(tmp_path / 'vq')
    assert (tokenizer.factor, tokenizer.num_codes) == (2, 20)
    assert torch.equal(tokenizer(normalize(pixels)), differences.square().sum(2).argmin(1))
    with pytest.raises(ValueError, match='has no config.json'):
        DiffusersTokenizer(tmp_path)
