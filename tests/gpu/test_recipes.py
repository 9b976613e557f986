"""Every pretraining recipe takes steps in bfloat16 and in float16."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

pytestmark = pytest.mark.gpu
CONFIGS = Path(__file__).parents[2] / 'configs'
# their masks come from weights of other networks, or from captions, which are not carried there
LEFT_OUT = ('mgmae/', 'tgm/')
KINDS = ('SingleBranchPretrainer', 'DualBranchPretrainer', 'MaskedPretrainer')


def recipes() -> list[str]:
    """Those of a ViT-B whose model is made of this toolkit's parts."""
    found = sorted(CONFIGS.glob('*/*_vitb*.py'))
    models = {str(path.relative_to(CONFIGS)): read(path).model for path in found}
    kept = [path for path, model in models.items() if model.type in KINDS]
    return [path for path in kept if not path.startswith(LEFT_OUT)]


def read(path: Path) -> Config:
    """Without importing what a recipe's data need, which may not be installed."""
    return Config.fromfile(path, import_custom_modules=False)


def build(config, device, narrow):
    """The model of a recipe on the device, a batch for it, and the codes of its tokens."""
    cfg = Config.fromfile(CONFIGS / config)
    init_default_scope(cfg.default_scope)
    cfg.model.pop('init_dorsal_from', None)
    branches = {name: cfg.model[name] for name in ('ventral', 'dorsal') if name in cfg.model}
    channels, frames, size, patch = 3, [], 224, 16
    for branch in branches.values() if branches else [cfg.model]:
        branch.pop('tokenizer', None)  # reads a file; codes come with the batch
        if narrow and branch.backbone.type == 'BimmViT':
            branch.backbone.arch = dict(embed_dims=48, depth=12, num_heads=3)
        channels = 4 if 'CachedContourTarget' in str(branch.targets) else channels
        frames = [branch.backbone.num_frames] if branch.backbone.get('num_frames') else frames
        size = branch.backbone.get('img_size', size)
        patch = branch.backbone.get('patch_size', patch)
    for objective in cfg.model.get('objectives', ()) if narrow else ():
        objective.embed_dims = 48
    with torch.device(device):  # random numbers for weights are drawn there, which is faster
        model = MODELS.build(cfg.model)
    shape = (channels, *frames, size, size)
    inputs = [torch.randint(256, shape, dtype=torch.uint8) for _ in range(2)]
    codes = torch.zeros(2, *(frames or [1]), size // patch, size // patch, dtype=torch.long)
    return model.to(device).train(), dict(inputs=inputs), codes.to(device)


def take_steps(model, batch, codes, dtype, scaled, steps):
    """Losses of some steps of training."""
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=scaled, init_scale=2.0**10)
    losses = []
    for _ in range(steps):
        with torch.autocast(device.type, dtype):
            data = model.data_preprocessor(batch, training=True)
            data.setdefault('codes', codes)
            loss, logged = model.parse_losses(model(**data, mode='loss'))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert {value.device.type for value in logged.values()} == {device.type}
        losses.append(loss)
    return torch.stack(losses).tolist()


# reading all recipes takes seconds, which tests that are skipped should not
WANTED = torch.cuda.is_available() or os.environ.get('BIMM_GPU_TESTS') == 'cpu'


@pytest.mark.parametrize('config', recipes() if WANTED else ['every recipe'])
def test_a_recipe_takes_steps_in_bfloat16_and_float16(config, device, rehearsal):
    torch.manual_seed(0)
    model, batch, codes = build(config, device, narrow=rehearsal)
    before = [p.detach().clone() for p in model.parameters()]
    for dtype, scaled in ((torch.bfloat16, False), (torch.float16, True)):
        losses = take_steps(model, batch, codes, dtype, scaled, 1 if rehearsal else 3)
        assert all(torch.isfinite(torch.tensor(losses))), losses
    assert all(p.isfinite().all() for p in model.parameters())
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    needed = [p.requires_grad for p in model.parameters()]
    assert sum(changed) >= 0.9 * sum(needed)
