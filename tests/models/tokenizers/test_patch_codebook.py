import pytest
import torch

from bimm_mm.datasets import MovingShapesDataset
from bimm_mm.models.tokenizers import PatchTokenizer
from bimm_mm.models.tokenizers.patch_codebook import fit_codebook, sample_patches, write_codebook
from bimm_mm.utils.checkpoint import read_checkpoint


def clips(count=20, seed=0):
    dataset = MovingShapesDataset(length=count, seed=seed, num_frames=3)
    return [dataset[index]['inputs'] for index in range(count)]


def test_sampled_patches_are_patches_of_the_clips():
    frames = torch.arange(3 * 2 * 8 * 8, dtype=torch.uint8).view(3, 2, 8, 8)
    patches = sample_patches([frames], 4, per_clip=50)
    known = {
        frames[:, t, y : y + 4, x : x + 4].flatten().float().div(255).numpy().tobytes()
        for t in range(2)
        for y in (0, 4)
        for x in (0, 4)
    }
    assert {patch.tobytes() for patch in patches} == known
    image = sample_patches([frames[:, 0]], 4, per_clip=30)
    assert len({patch.tobytes() for patch in image}) == 4
    two = sample_patches([torch.stack([frames, frames])], 4, per_clip=50)
    assert {patch.tobytes() for patch in two} == known
    with pytest.raises(ValueError, match='patch_size=3 must divide the frames of 8x8'):
        sample_patches([frames], 3, per_clip=1)


def test_a_codebook_explains_new_clips_and_says_how_well(tmp_path):
    pytest.importorskip('sklearn')
    codebook = fit_codebook(sample_patches(clips(), 4, per_clip=100), num_codes=64)
    write_codebook(codebook, tmp_path / 'codebook.pth')
    tokenizer = PatchTokenizer(tmp_path / 'codebook.pth', mean=[0] * 3, std=[1] * 3)
    assert (tokenizer.num_codes, tokenizer.factor) == (64, 4)
    new = torch.stack(clips(10, seed=1))
    codes = tokenizer(new.float())
    assert codes.shape == (10, 3, 8, 8)
    restored = codebook.centers[codes].view(10, 3, 8, 8, 3, 4, 4)
    restored = restored.permute(0, 4, 1, 2, 5, 3, 6).reshape(new.shape)
    pixels = new / 255
    explained = 1 - (restored - pixels).square().mean() / pixels.var()
    assert explained > 0.6 and codebook.explained > 0.6
    shares = codes.flatten().bincount(minlength=64) / codes.numel()
    assert 10 < codebook.perplexity <= 64
    assert abs(shares.max() - codebook.most_frequent) < 0.1
    assert read_checkpoint(tmp_path / 'codebook.pth')['meta']['num_patches'] == 2000


def test_the_same_seed_gives_the_same_codebook():
    pytest.importorskip('sklearn')
    patches = sample_patches(clips(5), 4, per_clip=40, seed=3)
    first, second = (fit_codebook(patches, 16, seed=1) for _ in range(2))
    assert torch.equal(first.centers, second.centers)
    with pytest.raises(ValueError, match='num_codes=300 needs at least as many patches'):
        fit_codebook(patches, 300)
