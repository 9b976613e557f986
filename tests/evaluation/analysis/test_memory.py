from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from bimm_mm.evaluation.analysis import memory

REPO = Path(__file__).parents[3]
DEMO = REPO / 'configs/bimm/demo/joint_shapes.py'


@pytest.fixture(scope='module')
def tool(load_script):
    return load_script('tools/analysis_tools/memory.py')


@pytest.mark.parametrize('with_cp', [False, True])
def test_what_is_counted_is_what_a_real_step_keeps(with_cp):
    cfg = Config.fromfile(DEMO)
    parameters, counted = memory.kept_bytes(cfg, 3, with_cp, bf16=False)
    model = memory.build(cfg, with_cp)
    assert parameters == sum(p.numel() for p in model.parameters())
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage
        return tensor

    data = model.data_preprocessor(dict(inputs=memory.make_batch(cfg, 3)), training=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model.parse_losses(model(**data, mode='loss'))
    assert counted == pytest.approx(sum(s.nbytes() for s in kept.values()), rel=0.03)


def test_options_save_what_they_are_for():
    cfg = Config.fromfile(DEMO)
    plain, with_cp, bf16, _ = memory.count_terms(cfg)
    assert with_cp['per_sample'] < 0.8 * plain['per_sample']
    assert bf16['per_sample'] < 0.9 * plain['per_sample']
    row = dict(parameters=1_000_000_000, per_sample=1e9, fixed=0)
    assert memory.largest_batch(row, 24, shards=1) == (20, 24 - 2 - 20)  # 4 of them DDP's buckets
    assert memory.largest_batch(row, 24, shards=8) == (6, 24 - 2 - 6)  # 2 sharded, 4 gathered
    assert memory.largest_batch(row, 22, shards=1)[1] == 0


def test_table_and_steps_are_printed(tool, capsys):
    tool.main([str(DEMO), '--gpu-memory', '24'])
    printed = capsys.readouterr().out
    assert '| bfloat16 | yes |' in printed and '24 GB, FSDP' in printed
    tool.main([str(DEMO), '--step', '--with-cp', '--bf16', '--accumulate', '2'])
    assert 'batch 2 x 2, with_cp=True, bf16=True, 1 process(es): peak' in capsys.readouterr().out


def test_mistakes_are_told(tool):
    with pytest.raises(SystemExit, match='no config file'):
        tool.main(['nothing.py'])
    with pytest.raises(SystemExit, match='is it for pretraining'):
        tool.main([str(REPO / 'configs/bimm/finetune_k400_vitb.py')])
