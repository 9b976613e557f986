"""Small random CLIPs and BLIP-2s in the layout that transformers publishes."""

from pathlib import Path

import torch

from bimm_mm.captions.small_clip import build_clip, write_tokenizer

PATCH, WIDTH = 4, 16


def write_clip(folder: Path, seed: int = 0, patch_size: int = PATCH, image_size: int = 16) -> Path:
    """A CLIP of two blocks each, 16 wide, patches of 4 pixels, made for 16x16."""
    size = write_tokenizer(folder)
    torch.manual_seed(seed)
    build_clip(size, image_size, patch_size, WIDTH, 2, 77, out_dims=8).save_pretrained(folder)
    return folder


def write_blip2(folder: Path) -> Path:
    """A BLIP-2 of one block in each of its three parts, for frames of 16x16 pixels."""
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessor,
        CLIPTokenizerFast,
    )

    size = write_tokenizer(folder)
    tokenizer = CLIPTokenizerFast(str(folder / 'vocab.json'), str(folder / 'merges.txt'))
    block = dict(
        hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    text = dict(
        model_type='opt',
        vocab_size=size + 1,  # the processor adds the token of a picture
        hidden_size=WIDTH,
        word_embed_proj_dim=WIDTH,
        ffn_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )
    config = Blip2Config(
        vision_config=block | dict(image_size=16, patch_size=8),
        qformer_config=block | dict(encoder_hidden_size=WIDTH),
        text_config=text,
        num_query_tokens=4,
        image_text_hidden_size=8,
        image_token_index=size,
    )
    torch.manual_seed(0)
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    pictures = BlipImageProcessor(size=dict(height=16, width=16))
    Blip2Processor(pictures, tokenizer, num_query_tokens=4).save_pretrained(folder)
    return folder
