# VideoMAE, continued on your own videos from published weights, without labels. First
#   python tools/model_converters/import_checkpoint.py WEIGHTS videomae.pth
# (with its decoder: the pretraining checkpoint, not a finetuned one); then set the variables here
# or on the command line, those of ../bimm/joint_own_vitb_edge.py as well:
#   --cfg-options data_root=/path/to/videos start=videomae.pth max_epochs=50
# For weights of another width, import_checkpoint.py --config-out writes a recipe like this one.
# docs/own_videos.md goes through it. Not in a paper.
_base_ = ['../bimm/joint_own_vitb_edge.py']

start = 'videomae.pth'  # None: from scratch
lr = 4e-5  # half of joint_own_vitb_edge's: the weights are good already

# ------------------------------------------------------------------------------------------------

arch = _base_.arch
depths = dict(tiny=12, small=12, base=12, large=24)
model = dict(
    _delete_=True,
    type='SingleBranchPretrainer',
    dorsal=dict(
        backbone=dict(
            type='BimmViT',
            arch=arch,
            img_size=_base_.img_size,
            num_frames=_base_.num_frames,
            tubelet_size=2,
            stage_ends=(arch['depth'] if isinstance(arch, dict) else depths[arch],),
            with_cls_token=False,
            time_positions='sequence',  # VideoMAE's own
        ),
        masking=dict(type='TubeMasking', ratio=0.9),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[
                dict(
                    type='TransformerDecoder',
                    embed_dims=384,
                    depth=4,
                    num_heads=6,
                    mlp_head=False,
                    time_positions='sequence',
                ),
            ],
        ),
        targets=[dict(type='PixelTarget', normalize='channel', eps=1e-6)],
    ),
)
load_from = start
optim_wrapper = dict(optimizer=dict(lr=lr))
