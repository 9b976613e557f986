"""A Sam of segment_anything's own modules, small enough for tests; random weights.

As a script, it registers this Sam as 'small' and runs the tool that follows on the command line.
"""

import runpy
import sys

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

WIDTH, SIZE, PATCH = 16, 64, 16


def build(checkpoint: str | None = None) -> Sam:
    """As segment_anything's builders."""
    assert checkpoint is None, 'segment_anything would unpickle it'
    torch.manual_seed(0)
    grid = (SIZE // PATCH, SIZE // PATCH)
    sam = Sam(
        ImageEncoderViT(
            img_size=SIZE,
            patch_size=PATCH,
            embed_dim=WIDTH,
            depth=2,
            num_heads=2,
            out_chans=WIDTH,
            use_rel_pos=True,
            window_size=2,
            global_attn_indexes=(1,),
        ),
        PromptEncoder(WIDTH, grid, (SIZE, SIZE), mask_in_chans=4),
        MaskDecoder(
            transformer_dim=WIDTH,
            transformer=TwoWayTransformer(depth=1, embedding_dim=WIDTH, num_heads=2, mlp_dim=16),
            iou_head_depth=2,
            iou_head_hidden_dim=16,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    # random masks are all of one sign; these vary over the picture
    torch.nn.init.normal_(sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix)
    return sam.eval()


if __name__ == '__main__':
    torch.set_num_threads(1)
    sam_model_registry['small'] = build
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name='__main__')
