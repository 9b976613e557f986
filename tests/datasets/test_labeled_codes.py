import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, init_default_scope

from bimm_mm.codes.cache import View, write_manifest

pytest.importorskip('mmaction')
CONFIG = 'configs/vimpac/finetune_ucf101_large-half.py'


@pytest.fixture
def data(tmp_path):
    """Two labeled videos of 6 and 2 frames, in 3 crops x 2 flips of 4 x 4 codes."""
    views = [View(32, crop, 32, flip) for crop in ('top', 'center', 'bottom') for flip in (0, 1)]
    tokenizer = dict(type='PatchTokenizer', sha256='0', num_codes=50, factor=8)
    cache = write_manifest(tmp_path / 'codes', tokenizer, 2, views)
    for name, frames in (('a.mp4', 6), ('b.mp4', 2)):
        codes = np.random.default_rng(frames).integers(0, 50, (6, frames, 4, 4))
        cache.write(name, codes.astype(np.uint16))
    (tmp_path / 'list.txt').write_text('a.mp4 2\nb.mp4 0\n')
    return dict(code_cache=str(tmp_path / 'codes'), ann_file=str(tmp_path / 'list.txt'))


def test_the_finetuning_recipe_trains_and_tests_on_codes(data):
    from bimm_mm.datasets.labeled_codes import LabeledCodeClipsDataset

    cfg = Config.fromfile(CONFIG)
    init_default_scope('mmaction')
    cfg.model.backbone.update(
        arch=dict(embed_dims=16, depth=1, num_heads=2),
        grid_size=(3, 4, 4),
        num_codes=50,
        init_cfg=None,
    )
    cfg.model.cls_head.update(num_classes=3, in_channels=16)
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert not model.cls_head.fc_cls.weight.any() and not model.cls_head.fc_cls.bias.any()

    train = LabeledCodeClipsDataset(**data, num_frames=3, num_clips=1)
    batch = pseudo_collate([train[0], train[1]])
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    # zero at first: all classes are equally likely
    torch.testing.assert_close(losses['loss_cls'], torch.tensor(3.0).log())
    losses['loss_cls'].backward()
    assert model.cls_head.fc_cls.weight.grad.norm() > 0

    test = LabeledCodeClipsDataset(
        **data, num_frames=3, num_clips=10, views=dict(flip=False), test_mode=True
    )
    assert test[0]['inputs'].shape == (30, 3, 4, 4)
    torch.nn.init.normal_(model.cls_head.fc_cls.weight)
    model.eval()
    with torch.no_grad():
        (sample,) = model.test_step(pseudo_collate([test[0]]))
        (features,) = model.backbone(test[0]['inputs'])
        wanted = model.cls_head.fc_cls(features).softmax(1).mean(0)  # of 10 clips x 3 crops
    torch.testing.assert_close(sample.pred_score, wanted)
    assert sample.gt_label.tolist() == [2]


def test_a_line_without_a_label_is_refused(data):
    from bimm_mm.datasets.labeled_codes import LabeledCodeClipsDataset

    with open(data['ann_file'], 'a') as file:
        file.write('a.mp4\n')
    with pytest.raises(ValueError, match="has no label for 'a.mp4'"):
        LabeledCodeClipsDataset(**data)
