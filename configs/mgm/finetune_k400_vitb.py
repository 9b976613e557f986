# Finetuning of MGM's encoder: bimm/finetune_k400_vitb.py with the mean of the tokens instead of
# a class token (VideoMAE's way).
#
# Another checkpoint: --cfg-options model.backbone.init_cfg.checkpoint=...
# From scratch: --cfg-options model.backbone.init_cfg=None
_base_ = ['../bimm/finetune_k400_vitb.py']

model = dict(
    backbone=dict(
        stage_ends=(12,),
        with_cls_token=False,
        time_positions='sequence',
        out_type='avg_featmap',
        norm_after_mean=True,
        init_cfg=dict(checkpoint='work_dirs/mgm_k400_vitb/epoch_800.pth', prefix='backbone.'),
    )
)
