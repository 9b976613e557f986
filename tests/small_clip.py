"""Small random CLIPs and BLIP-2s in the layout that transformers publishes."""

import json
from pathlib import Path

import torch

PATCH, WIDTH = 4, 16


def write_tokenizer(folder: Path) -> int:
    """CLIP's tokenizer with no merges: a token for each character. Returns its size."""
    from transformers.models.clip.tokenization_clip import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f'{letter}</w>' for letter in letters)]
    words += ['<|startoftext|>', '<|endoftext|>']
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'vocab.json').write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / 'merges.txt').write_text('#version: 0.2\n')
    settings = dict(tokenizer_class='CLIPTokenizer', model_max_length=77)
    (folder / 'tokenizer_config.json').write_text(json.dumps(settings))
    return len(words)


def write_clip(folder: Path, seed: int = 0, patch_size: int = PATCH, image_size: int = 16) -> Path:
    """A CLIP of two blocks each, 16 wide, patches of 4 pixels, made for 16x16."""
    from transformers import CLIPConfig, CLIPModel

    size = write_tokenizer(folder)
    block = dict(
        hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    text = dict(
        vocab_size=size,
        max_position_embeddings=77,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )
    config = CLIPConfig(
        text_config=block | text,
        vision_config=block | dict(image_size=image_size, patch_size=patch_size),
        projection_dim=8,
    )
    torch.manual_seed(seed)
    CLIPModel(config).save_pretrained(folder)
    return folder
