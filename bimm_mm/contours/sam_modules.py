"""Segment Anything's modules, computed for many prompts of one image.

The weights are those of segment_anything (Kirillov et al., 2023), or of MobileSAM, whose modules
are the same but for the image encoder, and the results are the same up to rounding. What differs
is the order of the computation, which is bound by memory in the original:

- In the decoder's cross-attention between T prompt tokens and N image tokens, the projections of
  the image are moved to the prompts: ``q (W k)`` is ``(q W) k``, so that with H heads H T rows
  are multiplied with the image in place of each of its channels. In the first layer, where the
  image is the same for all prompts, its projections are computed once.
- Attention of the image encoder uses scaled_dot_product_attention, some heads at a time.
- Masks are brought to the decoder's resolution only where they are wanted, and only within the
  picture: each token makes 4 x 4 pixels of its own.
"""

import copy
import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# entries of an attention bias that are computed at a time: what fits a CPU's cache
BIAS_ENTRIES = dict(cpu=1 << 22)
BIAS_ENTRIES_ACCELERATOR = 1 << 28


def with_fast_attention(encoder: nn.Module) -> nn.Module:
    """Return segment_anything's image encoder with another computation of its attention.

    The weights are shared with ``encoder``, which stays as it is. An encoder of another kind, as
    MobileSAM's, is returned itself.
    """
    blocks = getattr(encoder, 'blocks', ())
    if not blocks or not all(hasattr(block.attn, 'use_rel_pos') for block in blocks):
        return encoder
    encoder = copy.deepcopy(encoder, {id(weight): weight for weight in encoder.parameters()})
    for block in encoder.blocks:
        block.attn = EncoderAttention(block.attn)
    return encoder


class EncoderAttention(nn.Module):
    """Attention of segment_anything's image encoder, by scaled_dot_product_attention.

    Args:
        original: The module whose weights are used.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original

    def forward(self, x: Tensor) -> Tensor:
        """Attend among the tokens of each image or window, (B, H, W, C)."""
        attn = self.original
        b, h, w, c = x.shape
        qkv = attn.qkv(x).reshape(b, h * w, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.flatten(1, 2)[:, :, None].unbind(0)  # each (B heads, 1, H W, channels)
        if attn.use_rel_pos:
            out = torch.empty_like(q)
            rows, columns = self.relative_scores(q, h, w)
            limit = BIAS_ENTRIES.get(x.device.type, BIAS_ENTRIES_ACCELERATOR)
            heads, count = max(1, limit // (h * w) ** 2), min(h, max(1, limit // (h * w * w)))
            for i, j in itertools.product(range(0, len(q), heads), range(0, h, count)):
                some, lines = slice(i, i + heads), slice(j, j + count)
                bias = rows[some, lines, :, :, None] + columns[some, lines, :, None]
                part = some, slice(None), slice(j * w, (j + count) * w)
                out[part] = F.scaled_dot_product_attention(
                    q[part], k[some], v[some], bias.flatten(3).flatten(1, 2)[:, None]
                )
        else:
            out = F.scaled_dot_product_attention(q, k, v)
        out = out.view(b, attn.num_heads, h, w, -1).permute(0, 2, 3, 1, 4).reshape(b, h, w, c)
        return attn.proj(out)

    def relative_scores(self, q: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
        """Compute what relative rows and columns add to the scores: (B, H, W, H), (B, H, W, W)."""
        q = q.view(len(q), h, w, -1)
        rows = torch.einsum('bhwc,hkc->bhwk', q, relative(self.original.rel_pos_h, h))
        columns = torch.einsum('bhwc,wkc->bhwk', q, relative(self.original.rel_pos_w, w))
        return rows, columns


def relative(table: Tensor, size: int) -> Tensor:
    """Look up the relative positions of ``size`` queries and keys: (size, size, C).

    A table of another length is resized, as in the original.
    """
    if len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None], size=2 * size - 1, mode='linear')[0].T
    steps = torch.arange(size, device=table.device)
    return table[steps[:, None] - steps + size - 1]


@dataclass
class ImageTokens:
    """An image as the mask decoder sees it: N tokens of C channels.

    Attributes:
        keys: (N, C), the image embedding with SAM's "no mask" prompt.
        positions: (N, C).
        size: Rows and columns of tokens.
    """

    keys: Tensor
    positions: Tensor
    size: tuple[int, int]


class PromptDecoder:
    """SAM's mask decoder, over its own weights, for point prompts of one image.

    The few tokens of the prompts are computed in the dtype of the decoder, the many of the image in
    the dtype of the image: scores stay exact where that is bfloat16.

    Args:
        decoder: segment_anything's MaskDecoder, in float32.
    """

    def __init__(self, decoder: nn.Module) -> None:
        self.decoder = decoder
        self.transformer = decoder.transformer

    @property
    def num_tokens(self) -> int:
        """Tokens of a prompt: one for the score, one for each mask, a point and its padding."""
        return self.decoder.num_mask_tokens + 3

    def embed_image(self, embedding: Tensor, dense: Tensor, positions: Tensor) -> ImageTokens:
        """Prepare an image.

        Args:
            embedding: (C, h, w), of the image encoder.
            dense: (1, C, h, w), the prompt encoder's embedding of no mask.
            positions: (1, C, h, w), the prompt encoder's dense positions.
        """
        keys = (embedding + dense[0].to(embedding)).flatten(1).T.contiguous()
        positions = positions[0].to(embedding).flatten(1).T.contiguous()
        return ImageTokens(keys, positions, tuple(embedding.shape[1:]))

    def attend(self, image: ImageTokens, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Run the two-way transformer.

        Args:
            image: The image, of N tokens.
            prompts: (P, n, C), the prompt encoder's embeddings of P points.

        Returns:
            Tokens of the prompts, (P, T, C), and of the image, (P, N, C).
        """
        decoder = self.decoder
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([tokens.expand(len(prompts), -1, -1), prompts.to(tokens)], dim=1)
        queries, first, *others = tokens, *self.transformer.layers
        queries, keys = self._first_layer(first, image, queries, tokens)
        for layer in others:
            placed = keys + image.positions
            queries = attend_tokens(layer, queries, tokens)
            queries = queries + read_image(
                layer.cross_attn_token_to_image, queries + tokens, placed, keys
            )
            queries = process_tokens(layer, queries)
            keys = write_image(
                layer.cross_attn_image_to_token, placed, queries + tokens, queries, keys
            )
            keys = normalize(layer.norm4, keys)
        placed = keys + image.positions
        queries = queries + read_image(
            self.transformer.final_attn_token_to_image, queries + tokens, placed, keys
        )
        return self.transformer.norm_final_attn(queries), keys

    def _first_layer(
        self, layer: nn.Module, image: ImageTokens, queries: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute a layer for which the image is the same for all prompts."""
        keys, placed = image.keys, image.keys + image.positions
        prompts, length = queries.shape[:2]

        queries = attend_tokens(layer, queries, tokens)
        attn = layer.cross_attn_token_to_image
        # heads first, and the tokens of all prompts as one batch: (H, P T, d) and (H, N, d)
        q = split_heads(attn.q_proj(queries + tokens).flatten(0, 1), attn.num_heads)
        k = split_heads(project(attn.k_proj, placed), attn.num_heads)
        v = split_heads(project(attn.v_proj, keys), attn.num_heads)
        scores = (q * q.shape[-1] ** -0.5).to(k) @ k.mT
        read = scores.softmax(-1) @ v  # (H, P T, d)
        read = read.to(queries).transpose(0, 1).reshape(prompts, length, -1)
        queries = process_tokens(layer, queries + attn.out_proj(read))

        attn = layer.cross_attn_image_to_token
        q = split_heads(project(attn.q_proj, placed), attn.num_heads)
        k = split_heads(attn.k_proj(queries + tokens).flatten(0, 1), attn.num_heads)
        scores = (k * k.shape[-1] ** -0.5).to(q) @ q.mT  # (H, P T, N)
        scores = scores.view(attn.num_heads, prompts, length, -1).transpose(0, 1)
        shares = scores.softmax(2).flatten(1, 2)  # (P, H T, N): of each image token over T
        written = values_of_tokens(attn, queries).to(keys)
        return queries, normalize(layer.norm4, torch.baddbmm(keys, shares.mT, written))

    def scores(self, queries: Tensor) -> Tensor:
        """Predict the IoU of the three masks of each prompt: (P, T, C) to (P, 3)."""
        return self.decoder.iou_prediction_head(queries[:, 0])[:, 1:]

    def masks(
        self, queries: Tensor, keys: Tensor, grid: tuple[int, int], part: tuple[int, int]
    ) -> Tensor:
        """Compute the masks of some prompts.

        Args:
            queries: (P, T, C), of :meth:`attend`.
            keys: (P, N, C), of :meth:`attend`.
            grid: Rows and columns of the N tokens.
            part: The first rows and columns of tokens that are wanted.

        Returns:
            Logits, (P, 3, 4 rows, 4 columns).
        """
        count, (rows, columns) = len(keys), part
        first, norm, act, second, act2 = self.decoder.output_upscaling
        x = keys.unflatten(1, grid)[:, :rows, :columns].flatten(0, 2)
        # a transposed convolution whose stride is its size: every token makes 2 x 2 of its own
        x = unfold_product(first, x)
        x = normalize(norm, x)
        x = act2(unfold_product(second, act(x)))  # (P rows columns 4 4, c)
        mlps = self.decoder.output_hypernetworks_mlps
        weights = [mlp(queries[:, 1 + i]) for i, mlp in enumerate(mlps) if i]
        masks = x.view(count, 16 * rows * columns, x.shape[-1]) @ torch.stack(weights, dim=-1).to(x)
        masks = masks.view(count, rows, columns, 2, 2, 2, 2, masks.shape[-1])  # token, 2 x 2, 2 x 2
        return masks.permute(0, 7, 1, 3, 5, 2, 4, 6).flatten(2, 4).flatten(3)


def attend_tokens(layer: nn.Module, queries: Tensor, tokens: Tensor) -> Tensor:
    """Compute the self-attention of the prompts' tokens, (P, T, C)."""
    if layer.skip_first_layer_pe:
        return layer.norm1(layer.self_attn(q=queries, k=queries, v=queries))
    placed = queries + tokens
    return layer.norm1(queries + layer.self_attn(q=placed, k=placed, v=queries))


def process_tokens(layer: nn.Module, queries: Tensor) -> Tensor:
    """Compute the norm after the reading of the image, and the MLP."""
    queries = layer.norm2(queries)
    return layer.norm3(queries + layer.mlp(queries))


def read_image(attn: nn.Module, queries: Tensor, placed: Tensor, keys: Tensor) -> Tensor:
    """Compute the cross-attention of T prompt tokens to N image tokens.

    Args:
        attn: segment_anything's Attention.
        queries: (P, T, C), with positions.
        placed: (P, N, C), with positions.
        keys: (P, N, C), without.

    Returns:
        (P, T, C).
    """
    heads = attn.num_heads
    prompts, length = queries.shape[:2]
    q = attn.q_proj(queries).view(prompts, length, heads, -1)
    k_weight, v_weight = (p.weight.view(heads, q.shape[-1], -1) for p in (attn.k_proj, attn.v_proj))
    # the bias of k adds the same to all scores of a token, which changes no softmax
    moved = torch.einsum('pthd,hdc->phtc', q * q.shape[-1] ** -0.5, k_weight).flatten(1, 2)
    shares = torch.bmm(moved.to(placed), placed.mT).softmax(-1)  # (P, H T, N)
    mean = torch.bmm(shares, keys).to(queries).view(prompts, heads, length, -1)
    read = torch.einsum('phtc,hdc->pthd', mean, v_weight).flatten(2) + attn.v_proj.bias
    return attn.out_proj(read)


def write_image(
    attn: nn.Module, placed: Tensor, tokens: Tensor, queries: Tensor, keys: Tensor
) -> Tensor:
    """Compute the cross-attention of N image tokens to T prompt tokens, added to ``keys``.

    Args:
        attn: segment_anything's Attention.
        placed: (P, N, C), image with positions.
        tokens: (P, T, C), prompts with their embeddings.
        queries: (P, T, C), prompts without.
        keys: (P, N, C), overwritten by the result, which is returned.
    """
    heads = attn.num_heads
    prompts, length = queries.shape[:2]
    k = attn.k_proj(tokens).view(prompts, length, heads, -1)
    k = k * k.shape[-1] ** -0.5
    weight, bias = attn.q_proj.weight.view(heads, k.shape[-1], -1), attn.q_proj.bias
    moved = torch.einsum('pthd,hdc->phtc', k, weight).flatten(1, 2)
    offset = torch.einsum('pthd,hd->pht', k, bias.view(heads, -1)).flatten(1)[..., None]
    scores = torch.baddbmm(offset.to(keys), moved.to(keys), placed.mT)  # (P, H T, N)
    shares = scores.view(prompts, heads, length, -1).softmax(2).flatten(1, 2)
    return keys.baddbmm_(shares.mT, values_of_tokens(attn, queries).to(keys))


def values_of_tokens(attn: nn.Module, queries: Tensor) -> Tensor:
    """Compute what each head's share of each prompt token writes: (P, T, C) to (P, H T, C)."""
    heads = attn.num_heads
    v = attn.v_proj(queries).view(*queries.shape[:2], heads, -1)
    weight = attn.out_proj.weight.view(-1, heads, v.shape[-1])
    written = torch.einsum('pthd,chd->phtc', v, weight)
    return (written + attn.out_proj.bias / heads).flatten(1, 2)  # shares of a head add up to 1


def project(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer in the dtype of ``x``."""
    return F.linear(x, layer.weight.to(x), layer.bias.to(x))


def normalize(norm: nn.Module, x: Tensor) -> Tensor:
    """Normalize the channels, which come last, in the dtype of ``x``."""
    return F.layer_norm(x, x.shape[-1:], norm.weight.to(x), norm.bias.to(x), norm.eps)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Turn (N, H d) into (H, N, d)."""
    return x.view(len(x), heads, -1).transpose(0, 1)


def unfold_product(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a transposed convolution of size and stride 2 to tokens: (N, C) to (4 N, D)."""
    weight = conv.weight.permute(0, 2, 3, 1)  # (C, 2, 2, D)
    out = torch.addmm(conv.bias.repeat(4).to(x), x, weight.flatten(1).to(x))
    return out.view(4 * len(x), weight.shape[-1])
