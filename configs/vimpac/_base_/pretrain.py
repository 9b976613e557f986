# VIMPAC's pretraining (table 4): AdamW, a linear warm-up and a linear decay to 0 over the whole
# run, fp16 (start it with --amp). Clips of 5 frames at 2 fps, two of each video, from codes that
# were made beforehand for a folder of videos:
#   python tools/dataset_converters/extract_codes.py VIDEOS data/videos/codes_128 \
#       --tokenizer DalleTokenizer --checkpoint encoder.pkl
# The environment variable VIDEOS says where the data set is.
custom_imports = dict(imports=['bimm_mm'])
default_scope = 'mmengine'

train_dataloader = dict(
    batch_size=16,  # videos per GPU; two clips each
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='CodeClipsDataset',
        code_cache='{{$VIDEOS:data/videos}}/codes_128',
        num_frames=5,
        num_clips=2,
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', betas=(0.9, 0.98), eps=1e-8, weight_decay=0.05, fused=True),
    # biases and LayerNorms are not decayed; positions, class token and batch norms are
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            'contrast.projector.norms.0.weight': dict(decay_mult=1.0),
            'contrast.projector.norms.1.weight': dict(decay_mult=1.0),
        },
    ),
    clip_grad=dict(max_norm=1.0),
)
custom_hooks = [dict(type='GradientNormHook', interval=50), dict(type='FiniteLossHook')]
