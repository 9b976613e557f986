"""What holds for every method: bfloat16, exact resume, export, and an encoder for finetuning."""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import nn

from bimm_mm.models import BimmViT
from bimm_mm.models.checkpoints import export_branch, load_encoder

sys.path.insert(0, str(Path(__file__).parent))
from conftest import method_config, method_dataset, method_side  # noqa: E402

OF_PIXELS = ['joint', 'mam2', 'bevt', 'tgm', 'mgmae', 'adamae']  # their encoder is BimmViT
METHODS = [*OF_PIXELS, 'vimpac']


def build(method):
    torch.manual_seed(0)
    return MODELS.build(method_config(method))


@pytest.mark.parametrize('method', METHODS)
def test_bfloat16_comes_close_to_float32(method, clips):
    model, found = build(method), []
    if method == 'tgm':  # similarities that differ by little would mask other tokens
        model.masking.guide.forward = torch.autocast('cpu', enabled=False)(
            model.masking.guide.forward
        )
    for enabled in (False, True):
        torch.manual_seed(1)
        model.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            losses = model(clips, mode='loss', **method_side(method))
        losses = {key: value for key, value in losses.items() if key.startswith('loss')}
        assert all(value.dtype == torch.float32 for value in losses.values())
        sum(losses.values()).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((torch.stack(list(losses.values())), gradient))
    (losses, gradient), (low_losses, low_gradient) = found
    torch.testing.assert_close(low_losses, losses, rtol=0.02, atol=0.01)
    assert not torch.equal(low_losses, losses)  # autocast was on
    assert nn.functional.cosine_similarity(gradient, low_gradient, dim=0) > 0.99


def run(method, work_dir, iterations, resume=False):
    """The losses of a run of so many iterations, each with all its bits."""
    runner = Runner(
        model=method_config(method),
        work_dir=str(work_dir),
        # two runs within a second would have one name, and one log
        experiment_name=f'{method}-{work_dir.name}-{iterations}',
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate'),
            dataset=method_dataset(method),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        default_hooks=dict(
            checkpoint=dict(type='WholeCheckpointHook', by_epoch=False, interval=3),
            exact_resume=dict(type='ExactResumeHook'),
        ),
        log_level='WARNING',
        resume=resume,
        randomness=dict(seed=0),
    )
    runner.train()
    return runner.message_hub.get_scalar('train/loss').data[0].tolist()


@pytest.mark.parametrize('method', METHODS)
def test_a_resumed_run_has_the_losses_of_an_undisturbed_one(method, tmp_path):
    whole = run(method, tmp_path / 'whole', 6)
    run(method, tmp_path / 'parts', 3)
    resumed = run(method, tmp_path / 'parts', 6, resume=True)
    assert len(set(whole)) == 6 and resumed[-3:] == whole[-3:]


@pytest.mark.parametrize('method', OF_PIXELS)
def test_the_encoder_goes_on_to_finetuning(method, tmp_path, clips):
    """Out of the checkpoint, or exported: with the features that the pretrainer's encoder has."""
    model, path = build(method).eval(), str(tmp_path / 'model.pth')
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    branch = model.branches['dorsal' if method == 'joint' else 'masked']
    wanted = branch.backbone(clips)[-1][:, 0]
    export_branch(path, tmp_path / 'encoder.pth', 'dorsal')
    prefix = 'dorsal.backbone.' if method == 'joint' else 'backbone.'
    for source in (
        dict(checkpoint=path, prefix=prefix),
        dict(checkpoint=str(tmp_path / 'encoder.pth')),
    ):
        init = dict(type='Pretrained', **source)
        arch = dict(embed_dims=24, depth=3, num_heads=2)
        encoder = BimmViT(arch, 16, 4, num_frames=4, stage_ends=(3,), init_cfg=init)
        encoder.init_weights()
        torch.testing.assert_close(encoder.eval()(clips)[-1], wanted)
    loaded = BimmViT(arch, 16, 4, num_frames=4, stage_ends=(3,))
    load_encoder(loaded, path)
    torch.testing.assert_close(loaded.eval()(clips)[-1], wanted)


def test_the_encoder_of_codes_goes_on_to_finetuning(tmp_path, clips):
    """VIMPAC's, with its tokenizer: out of the checkpoint, as its recipes take it."""
    model, path = build('vimpac').eval(), str(tmp_path / 'model.pth')
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    init = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    encoder = MODELS.build(method_config('vimpac')['backbone'] | dict(init_cfg=init))
    assert not torch.equal(encoder.eval()(clips)[0], model.backbone(clips)[0])
    encoder.init_weights()
    torch.testing.assert_close(encoder.eval()(clips)[0], model.backbone(clips)[0])
