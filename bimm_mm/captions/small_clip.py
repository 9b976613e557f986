"""A small CLIP made of one's own clips and captions, in the layout of transformers.

It is for demonstrations and trials without a download: what it knows is what its clips show.
Everything here is our choice.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# CLIP's own, by which its guide normalizes
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CONTEXT = 32  # tokens of a caption


def write_tokenizer(folder: Path, words: Sequence[str] = (), context: int = 77) -> int:
    """Write the files of a CLIPTokenizer with a token for each character and each of some words.

    Args:
        folder: Made where needed.
        words: In lower case.
        context: Tokens of a text at most.

    Returns:
        The size of the vocabulary. Its last two entries are the tokens of beginning and end.
    """
    from tokenizers.pre_tokenizers import ByteLevel  # transformers needs it

    letters = sorted(ByteLevel.alphabet())
    entries = [*letters, *(f'{letter}</w>' for letter in letters)]
    merges: dict[str, None] = {}
    for word in words:
        parts = [*word[:-1], f'{word[-1]}</w>']
        for end in range(1, len(parts)):
            merges[f'{"".join(parts[:end])} {parts[end]}'] = None
    entries += dict.fromkeys(merge.replace(' ', '') for merge in merges)
    entries += ['<|startoftext|>', '<|endoftext|>']
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'vocab.json').write_text(json.dumps({entry: i for i, entry in enumerate(entries)}))
    (folder / 'merges.txt').write_text('#version: 0.2\n' + ''.join(f'{m}\n' for m in merges))
    settings = dict(tokenizer_class='CLIPTokenizer', model_max_length=context)
    (folder / 'tokenizer_config.json').write_text(json.dumps(settings))
    return len(entries)


def build_clip(
    vocabulary: int,
    image_size: int,
    patch_size: int,
    width: int = 64,
    depth: int = 2,
    context: int = CONTEXT,
    out_dims: int = 64,
) -> nn.Module:
    """A ``CLIPModel`` with random weights; both towers are ``depth`` blocks of ``width``."""
    from transformers import CLIPConfig, CLIPModel

    block = dict(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=depth,
        num_attention_heads=max(width // 16, 1),
    )
    text = dict(
        vocab_size=vocabulary,
        max_position_embeddings=context,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    vision = dict(image_size=image_size, patch_size=patch_size)
    config = CLIPConfig(
        text_config=block | text, vision_config=block | vision, projection_dim=out_dims
    )
    return CLIPModel(config)


def words_of(captions: Sequence[str]) -> list[str]:
    """All words of some captions, sorted."""
    return sorted({word.strip('.,') for caption in captions for word in caption.lower().split()})


class SmallClip:
    """A CLIP that learns from frames and captions.

    There are two losses besides CLIP's. The patch that is most like a caption must tell it from
    the others' captions, too: with so few pictures, the class token alone teaches patches nothing.
    And the words of a caption must be found in its embedding by a linear layer, which is thrown
    away: so it tells what no frame shows, as directions, as the embeddings of a CLIP do that
    learned from hundreds of millions of texts.

    Args:
        folder: Where it is written to.
        captions: All captions of the data, for the vocabulary.
        image_size: Side of a frame in pixels.
        patch_size: Side of a patch in pixels.
        lr: Highest learning rate.
    """

    def __init__(
        self,
        folder: str | Path,
        captions: Sequence[str],
        image_size: int,
        patch_size: int,
        lr: float = 3e-3,
    ) -> None:
        from transformers import CLIPTokenizer

        self.folder, self.lr = Path(folder), lr
        self.words = words_of(captions)
        size = write_tokenizer(self.folder, self.words, CONTEXT)
        self.tokenizer = CLIPTokenizer.from_pretrained(self.folder, local_files_only=True)
        self.network = build_clip(size, image_size, patch_size)
        self.reader = nn.Linear(self.network.config.projection_dim, len(self.words))

    def losses(self, frames: Tensor, captions: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """CLIP's loss, that of the patches and that of the words.

        Args:
            frames: (B, 3, H, W) uint8 RGB.
            captions: B of them.
        """
        tokens = self.tokenizer(
            list(captions),
            padding=True,
            truncation=True,
            max_length=CONTEXT,
            return_tensors='pt',
        )
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        pixels = (frames.float() / 255 - mean) / std
        result = self.network(**tokens, pixel_values=pixels, return_loss=True)
        known = [words_of([caption]) for caption in captions]
        wanted = torch.tensor([[float(word in words) for word in self.words] for words in known])
        read = self.reader(result.text_embeds * len(self.words) ** 0.5)
        return (
            result.loss,
            self.patch_loss(result.vision_model_output.last_hidden_state, result.text_embeds),
            F.binary_cross_entropy_with_logits(read, wanted),
        )

    def patch_loss(self, tokens: Tensor, texts: Tensor) -> Tensor:
        """CLIP's loss of the patches that are most like the captions.

        Args:
            tokens: (B, 1 + P, C) of the last block.
            texts: (B, D) embeddings of captions.
        """
        patches = self.network.vision_model.post_layernorm(tokens[:, 1:])
        patches = F.normalize(self.network.visual_projection(patches), dim=-1)  # (B, P, D)
        logits = torch.einsum('bpd,cd->bcp', patches, texts).amax(dim=2)  # (B, B)
        logits = logits * self.network.logit_scale.exp()
        own = torch.arange(len(texts))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    def train(
        self,
        draw: Callable[[], tuple[Tensor, Sequence[str]]],
        iterations: int,
    ) -> Iterator[tuple[float, ...]]:
        """Train it.

        Args:
            draw: Gives frames and captions, as of :meth:`losses`.
            iterations: How many.

        Yields:
            The losses, after each iteration.
        """
        parameters = [*self.network.parameters(), *self.reader.parameters()]
        optimizer = torch.optim.AdamW(parameters, self.lr, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, iterations)
        self.network.train()
        for _ in range(iterations):
            losses = self.losses(*draw())
            optimizer.zero_grad()
            sum(losses).backward()
            optimizer.step()
            schedule.step()
            yield tuple(loss.item() for loss in losses)

    def save(self) -> None:
        """Write it into its folder."""
        self.network.eval().save_pretrained(self.folder)
