# As mam2_k400_vitb.py, with codes that were made beforehand:
#   python tools/dataset_converters/extract_codes.py data/kinetics400/videos_train \
#       data/kinetics400/codes_whole --tokenizer VqganTokenizer \
#       --checkpoint weights/vqgan/gumbel_f8_8192.pth --whole --size 256 --pixels-per-code 16 \
#       --fps 0
# Crops are those of which codes can be cut out: of one size, at steps of 16 pixels. Crops of
# several sizes, and what codes of whole frames mean for a network: docs/tokenizers.md.
_base_ = ['./mam2_k400_vitb.py']

train_dataloader = dict(
    dataset=dict(
        code_cache='{{$KINETICS400:data/kinetics400}}/codes_whole',
        pipeline=[
            *_base_.pipeline[:3],  # VideoInit, SampleFrames, VideoDecode
            dict(type='GridCrop', size=224, resize=256, pixels_per_code=16),
            dict(type='LoadCodes', grid=(14, 14), num_codes=8192),
            dict(type='mmaction.FormatShape', input_format='NCTHW'),
            dict(type='mmaction.PackActionInputs', meta_keys=('codes',)),
        ],
    )
)
