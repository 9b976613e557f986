"""A frozen CLIP: embeddings of captions, and where in a picture is what a caption speaks of.

How CLIP meets the grid of tokens is our choice: TGM's paper could not be read, and a note about it
names the model (ViT-B/32) and the cosine similarity of patches and caption, nothing more.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TEXTS_AT_ONCE = 16  # always so many, so that a text's embedding does not depend on the others
FRAMES_AT_ONCE = 128
DENSE = ('raw', 'value')
FRAMES = ('mean', 'first')


class Clip:
    """A frozen model of transformers' ``CLIPModel`` with its tokenizer.

    It is no module: optimizers, wrappers and checkpoints do not see it. It follows its input to
    the device.

    Args:
        network: A ``CLIPModel``.
        tokenizer: Its ``CLIPTokenizer`` or ``CLIPTokenizerFast``.
        remember: Texts whose embeddings are kept.
    """

    def __init__(self, network: nn.Module, tokenizer, remember: int = 65536) -> None:
        self.network = network.eval().requires_grad_(False)
        self.tokenizer, self.remember = tokenizer, remember
        self.patch_size = network.config.vision_config.patch_size
        self.out_dims = network.config.projection_dim
        self.context = network.config.text_config.max_position_embeddings
        self._known: OrderedDict[str, Tensor] = OrderedDict()

    @torch.no_grad()
    def embed(self, texts: Sequence[str], device: torch.device | str) -> Tensor:
        """Embed texts: (N, D) float32 of length 1. Texts that are too long are cut."""
        self.network.to(device)
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(missing), TEXTS_AT_ONCE):
            part = missing[start : start + TEXTS_AT_ONCE]
            rows = part + part[-1:] * (TEXTS_AT_ONCE - len(part))
            self._known |= zip(part, self._embed(rows, device), strict=False)
        found = torch.stack([self._known[text] for text in texts]).to(device)
        for text in dict.fromkeys(texts):
            self._known.move_to_end(text)
        while len(self._known) > self.remember:
            self._known.popitem(last=False)
        return found

    def _embed(self, texts: list[str], device: torch.device | str) -> Tensor:
        tokens = self.tokenizer(
            texts,
            padding='max_length',
            truncation=True,
            max_length=self.context,
            return_tensors='pt',
        ).to(device)
        with torch.autocast(torch.device(device).type, enabled=False):
            pooled = self.network.text_model(tokens.input_ids, tokens.attention_mask)[1]
            return F.normalize(self.network.text_projection(pooled).float(), dim=-1)

    @torch.no_grad()
    def embed_patches(self, frames: Tensor, size: tuple[int, int], dense: str = 'raw') -> Tensor:
        """Features of patches in the space that images and texts have in common.

        CLIP applies its last norm and projection to the class token; here they are applied to
        every patch.

        Args:
            frames: (N, 3, H, W) RGB in [0, 1]; resized to ``size`` by bicubic interpolation.
            size: Rows and columns in pixels, multiples of the patch size.
            dense: 'raw', or 'value': in the last block, each token attends to itself alone.

        Returns:
            (N, h, w, D) of length 1.
        """
        vision = self.network.to(frames.device).vision_model
        if tuple(frames.shape[2:]) != size:
            frames = F.interpolate(frames, size, mode='bicubic', antialias=True).clamp(0, 1)
        frames = (frames - frames.new_tensor(MEAN).view(3, 1, 1)) / frames.new_tensor(STD).view(
            3, 1, 1
        )
        result = vision(frames, output_hidden_states=True, interpolate_pos_encoding=True)
        tokens = result.last_hidden_state
        if dense == 'value':
            block, tokens = vision.encoder.layers[-1], result.hidden_states[-2]
            attention = block.self_attn
            tokens = tokens + attention.out_proj(attention.v_proj(block.layer_norm1(tokens)))
            tokens = tokens + block.mlp(block.layer_norm2(tokens))
        patches = self.network.visual_projection(vision.post_layernorm(tokens[:, 1:]))
        rows, columns = (side // self.patch_size for side in size)
        return F.normalize(patches.float(), dim=-1).unflatten(1, (rows, columns))


_LOADED: WeakValueDictionary[str, Clip] = WeakValueDictionary()


def load_clip(checkpoint: str | os.PathLike) -> Clip:
    """Load a CLIP from a local folder of transformers; the same folder is loaded once.

    Args:
        checkpoint: Folder with ``config.json``, weights and the tokenizer's files, as
            ``CLIPModel.save_pretrained`` and ``CLIPTokenizer.save_pretrained`` write them.

    Raises:
        FileNotFoundError: There is no such folder.
        ImportError: transformers is missing.
        ValueError: The folder holds no CLIP.
    """
    key = os.path.realpath(checkpoint)
    if key in _LOADED:
        return _LOADED[key]
    if not (Path(key) / 'config.json').is_file():
        raise FileNotFoundError(
            f'checkpoint={os.fspath(checkpoint)!r}: no CLIP there, no {key}/config.json. Download '
            'openai/clip-vit-base-patch32 from huggingface.co into that folder'
        )
    try:
        from transformers import AutoTokenizer, CLIPModel
    except ImportError as error:
        raise ImportError('CLIP needs transformers: pip install "bimm_mm[text]"') from error
    try:
        network, report = CLIPModel.from_pretrained(
            key, local_files_only=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(key, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f'checkpoint={os.fspath(checkpoint)!r} cannot be read: {error}') from error
    if report['missing_keys']:
        raise ValueError(
            f'checkpoint={os.fspath(checkpoint)!r} is not a whole CLIP: '
            f'{len(report["missing_keys"])} weights are missing, as {report["missing_keys"][0]}'
        )
    return _LOADED.setdefault(key, Clip(network, tokenizer))


class ClipPart(BaseModule):
    """What uses a CLIP. The weights are read when training begins, or when they are first needed.

    Args:
        checkpoint: As of :func:`load_clip`.
    """

    def __init__(self, checkpoint: str | os.PathLike, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.checkpoint = checkpoint
        self.clip_: Clip | None = None

    @property
    def clip(self) -> Clip:
        """The model."""
        if self.clip_ is None:
            self.clip_ = load_clip(self.checkpoint)
        return self.clip_

    def init_weights(self) -> None:
        """Read the weights."""
        _ = self.clip


@MODELS.register_module()
class ClipTextEncoder(ClipPart):
    """CLIP's embeddings of captions, frozen.

    Args:
        checkpoint: As of :func:`load_clip`.
    """

    def forward(self, captions: Sequence[str], device: torch.device | str) -> Tensor:
        """Embed N captions: (N, D), of length 1."""
        return self.clip.embed(captions, device)


@MODELS.register_module()
class ClipGuide(ClipPart):
    """Where in a clip is what its caption speaks of: CLIP's similarity of patches and caption.

    Raw similarities of CLIP are often inverted, with the background above the object (CLIP
    Surgery); ``dense='value'`` repairs some of that, and the masking's ``order='bottom'`` takes the
    other end.

    Args:
        checkpoint: As of :func:`load_clip`.
        input_size: Side in pixels at which CLIP sees frames, a multiple of its patch; the map is
            then resized to the grid of tokens bilinearly. When left out, a patch for each token
            (448 pixels for ViT-B/32 and 14 x 14 tokens), with interpolated positions.
        dense: 'raw', or 'value': in the last block each token attends to itself alone, through the
            values and the output's projection.
        frames: 'mean' of the similarities of a token's frames, or the 'first' frame alone, which
            costs half as much.

    Raises:
        ValueError: An argument is none of these.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike,
        input_size: int | None = None,
        dense: str = 'raw',
        frames: str = 'mean',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(checkpoint, init_cfg)
        for name, value, known in (('dense', dense, DENSE), ('frames', frames, FRAMES)):
            if value not in known:
                raise ValueError(f"{name}='{value}' must be {' or '.join(map(repr, known))}")
        self.input_size, self.dense, self.frames = input_size, dense, frames

    @torch.no_grad()
    def forward(self, clips: Tensor, captions: Sequence[str], grid: tuple[int, int, int]) -> Tensor:
        """Compute the similarity of each token's patch and the caption, in [-1, 1].

        Args:
            clips: (B, 3, T, H, W) RGB in [0, 1].
            captions: One for each clip.
            grid: Of the tokens, (T', H', W').

        Returns:
            (B, T', H', W').

        Raises:
            ValueError: ``input_size`` is not a multiple of CLIP's patch.
        """
        texts = self.clip.embed(captions, clips.device)  # (B, D)
        per_token = clips.shape[2] // grid[0]
        clips = clips[:, :, ::per_token] if self.frames == 'first' else clips
        size = self.size(grid[1:])
        frames = clips.transpose(1, 2).flatten(0, 1)  # (B * frames, 3, H, W)
        texts = texts.repeat_interleave(clips.shape[2], dim=0)
        maps = [
            torch.einsum('nhwd,nd->nhw', self.clip.embed_patches(part, size, self.dense), text)
            for part, text in zip(
                frames.split(FRAMES_AT_ONCE), texts.split(FRAMES_AT_ONCE), strict=True
            )
        ]
        similarity = torch.cat(maps)  # (B * frames, h, w)
        if tuple(similarity.shape[1:]) != tuple(grid[1:]):
            similarity = F.interpolate(similarity[:, None], tuple(grid[1:]), mode='bilinear')[:, 0]
        return similarity.view(len(clips), grid[0], -1, *grid[1:]).mean(dim=2)

    def size(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of pixels at which CLIP sees a frame of so many tokens."""
        patch = self.clip.patch_size
        if self.input_size is None:
            return (grid[0] * patch, grid[1] * patch)
        if self.input_size % patch:
            raise ValueError(
                f"input_size={self.input_size} must be a multiple of CLIP's patch, {patch} pixels"
            )
        return (self.input_size, self.input_size)
