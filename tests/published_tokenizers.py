"""Small tokenizers with random weights, in the layouts in which the real ones are published."""

import sys
from collections import OrderedDict
from contextlib import contextmanager
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import nn


class Conv2d(nn.Module):
    """OpenAI's convolution, whose parameters are ``w`` and ``b``."""

    def __init__(self, n_in, n_out, kw):
        super().__init__()
        self.w = nn.Parameter(torch.randn(n_out, n_in, kw, kw) / (n_in * kw**2) ** 0.5)
        self.b = nn.Parameter(0.01 * torch.randn(n_out))
        self.device = torch.device('cpu')  # an attribute that is pickled as a call

    def forward(self, x):
        return F.conv2d(x, self.w, self.b, padding=(self.w.shape[-1] - 1) // 2)


class EncoderBlock(nn.Module):
    def __init__(self, n_in, n_out, n_layers):
        super().__init__()
        hidden = n_out // 4
        self.post_gain = 1 / n_layers**2
        self.id_path = Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        parts = []
        for i, (a, b, k) in enumerate(
            [(n_in, hidden, 3), (hidden, hidden, 3), (hidden, hidden, 3), (hidden, n_out, 1)], 1
        ):
            parts += [(f'relu_{i}', nn.ReLU()), (f'conv_{i}', Conv2d(a, b, k))]
        self.res_path = nn.Sequential(OrderedDict(parts))

    def forward(self, x):
        return self.id_path(x) + self.post_gain * self.res_path(x)


class Encoder(nn.Module):
    """The dVAE's encoder: four groups of blocks, a max-pool after each but the last."""

    def __init__(self, n_hid=8, vocab_size=40, blocks=2):
        super().__init__()
        groups = [('input', Conv2d(3, n_hid, 7))]
        width = n_hid
        for group in range(4):
            parts = []
            for block in range(blocks):
                parts.append(
                    (f'block_{block + 1}', EncoderBlock(width, n_hid * 2**group, 4 * blocks))
                )
                width = n_hid * 2**group
            if group < 3:
                parts.append(('pool', nn.MaxPool2d(2)))
            groups.append((f'group_{group + 1}', nn.Sequential(OrderedDict(parts))))
        output = [('relu', nn.ReLU()), ('conv', Conv2d(width, vocab_size, 1))]
        groups.append(('output', nn.Sequential(OrderedDict(output))))
        self.blocks = nn.Sequential(OrderedDict(groups))
        # blind to the mean color, or else nearly all codes would be the same
        self.blocks.input.w.data -= self.blocks.input.w.mean((1, 2, 3), keepdim=True)

    def forward(self, x):
        return self.blocks(x)


@contextmanager
def importable(modules):
    """Modules of these names with these classes, for pickling; later they cannot be imported."""
    before = {cls: cls.__module__ for classes in modules.values() for cls in classes}
    for name, classes in modules.items():
        sys.modules[name] = ModuleType(name)
        for cls in classes:
            cls.__module__ = name
            setattr(sys.modules[name], cls.__name__, cls)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
        for cls, name in before.items():
            cls.__module__ = name


def save_dalle(path, zipped=True, seed=0):
    """Pickle a module as OpenAI did."""
    torch.manual_seed(seed)
    encoder = Encoder()
    modules = {'dall_e': (), 'dall_e.encoder': (Encoder, EncoderBlock), 'dall_e.utils': (Conv2d,)}
    with importable(modules):
        torch.save(encoder, path, _use_new_zipfile_serialization=zipped)
    return encoder


class Callback:
    """What a Lightning checkpoint names beside the weights."""


def save_vqgan(path, gumbel=False, widths=(32, 64, 64), attention_level=1, num_codes=30, seed=0):
    """A checkpoint of taming-transformers: Lightning's, with a decoder and a loss of no use."""
    torch.manual_seed(seed)
    state = {}

    def conv(name, n_in, n_out, kernel):
        state[f'{name}.weight'] = torch.randn(n_out, n_in, kernel, kernel) / (n_in**0.5 * kernel)
        state[f'{name}.bias'] = 0.1 * torch.randn(n_out)

    def norm(name, width):
        state[f'{name}.weight'] = 1 + 0.2 * torch.randn(width)
        state[f'{name}.bias'] = 0.2 * torch.randn(width)

    def block(name, n_in, n_out):
        norm(f'{name}.norm1', n_in), conv(f'{name}.conv1', n_in, n_out, 3)
        norm(f'{name}.norm2', n_out), conv(f'{name}.conv2', n_out, n_out, 3)
        if n_in != n_out:
            conv(f'{name}.nin_shortcut', n_in, n_out, 1)

    def attention(name, width):
        norm(f'{name}.norm', width)
        for part in ('q', 'k', 'v', 'proj_out'):
            conv(f'{name}.{part}', width, width, 1)

    width = 32
    conv('encoder.conv_in', 3, width, 3)
    for level, out in enumerate(widths):
        for index in range(2):
            block(f'encoder.down.{level}.block.{index}', width, out)
            width = out
            if level == attention_level:
                attention(f'encoder.down.{level}.attn.{index}', out)
        if level < len(widths) - 1:
            conv(f'encoder.down.{level}.downsample.conv', out, out, 3)
    block('encoder.mid.block_1', width, width)
    attention('encoder.mid.attn_1', width)
    block('encoder.mid.block_2', width, width)
    norm('encoder.norm_out', width)
    conv('encoder.conv_out', width, 20, 3)
    conv('quant_conv', 20, 12, 1)
    if gumbel:
        conv('quantize.proj', 12, num_codes, 1)
        state['quantize.embed.weight'] = torch.randn(num_codes, 12)
    else:
        state['quantize.embedding.weight'] = torch.randn(num_codes, 12)
    others = {'decoder.conv_in.weight': torch.zeros(3), 'loss.logvar': torch.zeros(())}
    content = dict(state_dict=state | others, epoch=3, callbacks={Callback: dict(best=Callback())})
    with importable({'lightning_callbacks': (Callback,)}):
        torch.save(content, path)
    return state


def vqgan_codes(state, x):
    """The encoder and quantizer as equations on the published names: (N, 3, H, W) in [-1, 1]."""

    def conv(name, x, **kwargs):
        weight = state[f'{name}.weight']
        padding = kwargs.pop('padding', weight.shape[-1] // 2)
        return F.conv2d(x, weight, state[f'{name}.bias'], padding=padding, **kwargs)

    def norm(name, x):
        return F.group_norm(x, 32, state[f'{name}.weight'], state[f'{name}.bias'], 1e-6)

    def swish(x):
        return x * torch.sigmoid(x)

    def block(name, x):
        h = conv(f'{name}.conv1', swish(norm(f'{name}.norm1', x)))
        h = conv(f'{name}.conv2', swish(norm(f'{name}.norm2', h)))
        return h + (conv(f'{name}.nin_shortcut', x) if f'{name}.nin_shortcut.bias' in state else x)

    def attention(name, x):
        h = norm(f'{name}.norm', x)
        q, k, v = (conv(f'{name}.{part}', h).flatten(2) for part in 'qkv')  # (N, C, HW)
        weights = torch.einsum('nci,ncj->nij', q, k) * q.shape[1] ** -0.5
        out = torch.einsum('nij,ncj->nci', weights.softmax(-1), v).view(x.shape)
        return x + conv(f'{name}.proj_out', out)

    x = conv('encoder.conv_in', x)
    level = 0
    while f'encoder.down.{level}.block.0.conv1.bias' in state:
        for index in range(2):
            x = block(f'encoder.down.{level}.block.{index}', x)
            if f'encoder.down.{level}.attn.{index}.q.bias' in state:
                x = attention(f'encoder.down.{level}.attn.{index}', x)
        if f'encoder.down.{level}.downsample.conv.bias' in state:
            x = F.pad(x, (0, 1, 0, 1))
            x = conv(f'encoder.down.{level}.downsample.conv', x, padding=0, stride=2)
        level += 1
    x = block('encoder.mid.block_1', x)
    x = block('encoder.mid.block_2', attention('encoder.mid.attn_1', x))
    x = conv('quant_conv', conv('encoder.conv_out', swish(norm('encoder.norm_out', x))))
    if 'quantize.proj.weight' in state:
        return conv('quantize.proj', x).argmax(1)
    differences = x[:, None] - state['quantize.embedding.weight'][None, :, :, None, None]
    return differences.square().sum(2).argmin(1)
