"""VIMPAC as the paper's equations, on the names of its published files; no code of the toolkit."""

import torch
import torch.nn.functional as F

PAD = 8193
# per step, the axes (of B, T, H, W) that parallel parts attend along
LAYOUTS = {'joint': (((1, 2, 3),),), 'T,H|W': (((1,),), ((2,), (3,)))}


def random_state(layout, width=128, depth=2, grid=(3, 4, 4), vocabulary=8197, half=False, seed=0):
    """A random model in the published layout, with the heads of pretraining."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def make(name, *shape, std=0.2, mean=0.0):
        state[name] = mean + std * torch.randn(shape, generator=generator)

    def linear(name, out, inner, bias=True):
        make(f'{name}.weight', out, inner, std=inner**-0.5)
        if bias:
            make(f'{name}.bias', out)

    def norm(name, size):
        make(f'{name}.weight', size, mean=1.0)
        make(f'{name}.bias', size)

    make('backbone.cls_param', width, std=1.0)
    make('backbone.embedding.weight', vocabulary, width, std=1.0)
    positions = 'backbone.positional_embedding'
    make(f'{positions}.cls_pos_embedding', 1, width)
    for axis, length in zip(('temporal', 'height', 'width'), grid, strict=True):
        make(f'{positions}.{axis}_pos_embedding', length, width)
    norm('backbone.ln_pre', width)
    attention_width, hidden = (width // 2, 2 * width) if half else (width, 4 * width)
    for n in range(depth):
        block = f'backbone.transformer.resblocks.{n}'
        for i, parts in enumerate(LAYOUTS[layout]):
            name = f'{block}.attention_blocks.{i}'
            for j in range(len(parts)):
                for kind in ('query', 'key', 'value'):
                    part = f'{name}.attentions.{j}.attention.{kind}'
                    linear(part, attention_width // len(parts), width)
            linear(f'{name}.output.dense', width, attention_width)
            norm(f'{name}.output.LayerNorm', width)
        linear(f'{block}.mlp.c_fc', hidden, width)
        linear(f'{block}.mlp.c_proj', width, hidden)
        norm(f'{block}.ln', width)
    linear('mlm_head.transform.0', width, width)
    norm('mlm_head.transform.2', width)
    make('mlm_head.bias', vocabulary)
    state['mlm_head.decoder.weight'] = state['backbone.embedding.weight']
    state['mlm_head.decoder.bias'] = state['mlm_head.bias']
    linear('cls_head.mlp.linear_0', 24, width)
    norm('cls_head.mlp.bn_0', 24)
    make('cls_head.mlp.bn_0.running_mean', 24)
    state['cls_head.mlp.bn_0.running_var'] = torch.rand(24, generator=generator) + 0.5
    state['cls_head.mlp.bn_0.num_batches_tracked'] = torch.tensor(3)
    linear('cls_head.mlp.linear_1', 16, 24, bias=False)
    return state


def encode(state, codes, layout):
    """Class token (B, C) and tokens (B, T, H, W, C) of codes (B, T, H, W)."""
    state = {k.removeprefix('backbone.'): v for k, v in state.items()}

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[f'{name}.weight'], state[f'{name}.bias'], 1e-12)

    def linear(name, x):
        return F.linear(x, state[f'{name}.weight'], state[f'{name}.bias'])

    def positions(axis):
        return state[f'positional_embedding.{axis}_pos_embedding']

    real = codes != PAD
    x = state['embedding.weight'][codes]
    x = x + positions('temporal')[:, None, None]
    x = x + positions('height')[None, :, None] + positions('width')[None, None]
    x = norm('ln_pre', x)
    cls = norm('ln_pre', state['cls_param'] + positions('cls')[0]).expand(len(x), -1)
    heads = x.shape[-1] // 64

    def attend(name, cls, x, axes, heads):
        """One attention along some axes, line by line and head by head."""
        q, k, v = (linear(f'{name}.{kind}', x) for kind in ('query', 'key', 'value'))
        cq, ck, cv = (linear(f'{name}.{kind}', cls) for kind in ('query', 'key', 'value'))
        size = q.shape[-1] // heads
        out, copies = torch.zeros_like(q), [[] for _ in range(len(x))]
        others = [axis for axis in (1, 2, 3) if axis not in axes]
        sizes = [x.shape[axis] for axis in others]
        for b in range(len(x)):
            for line in torch.cartesian_prod(*map(torch.arange, sizes)) if others else [None]:
                place = [b, slice(None), slice(None), slice(None)]
                for axis, index in zip(others, line.reshape(-1) if others else [], strict=True):
                    place[axis] = int(index)
                place = tuple(place)
                width = q.shape[-1]
                keys = torch.cat([ck[b][None], k[place].reshape(-1, width)])
                values = torch.cat([cv[b][None], v[place].reshape(-1, width)])
                queries = torch.cat([cq[b][None], q[place].reshape(-1, width)])
                allowed = torch.cat([torch.tensor([True]), real[place].reshape(-1)])
                parts = []
                for h in range(heads):
                    cut = slice(h * size, (h + 1) * size)
                    scores = queries[:, cut] @ keys[:, cut].T / size**0.5
                    scores[:, ~allowed] = float('-inf')
                    parts.append(scores.softmax(-1) @ values[:, cut])
                result = torch.cat(parts, dim=-1)
                copies[b].append(result[0])
                out[place] = result[1:].reshape(out[place].shape)
        return torch.stack([torch.stack(c).mean(0) for c in copies]), out

    n = 0
    while f'transformer.resblocks.{n}.ln.weight' in state:
        block = f'transformer.resblocks.{n}'
        for i, parts in enumerate(LAYOUTS[layout]):
            name = f'{block}.attention_blocks.{i}'
            results = [
                attend(f'{name}.attentions.{j}.attention', cls, x, axes, heads // len(parts))
                for j, axes in enumerate(parts)
            ]
            new_cls = linear(f'{name}.output.dense', torch.cat([r[0] for r in results], -1))
            new_x = linear(f'{name}.output.dense', torch.cat([r[1] for r in results], -1))
            cls = norm(f'{name}.output.LayerNorm', new_cls + cls)
            x = norm(f'{name}.output.LayerNorm', new_x + x)
        cls, x = (
            norm(f'{block}.ln', y + linear(f'{block}.mlp.c_proj', F.gelu(
                linear(f'{block}.mlp.c_fc', y))))
            for y in (cls, x)
        )  # fmt: skip
        n += 1
    return cls, x


def code_logits(state, tokens):
    """The token head."""
    x = F.linear(tokens, state['mlm_head.transform.0.weight'], state['mlm_head.transform.0.bias'])
    weight, bias = state['mlm_head.transform.2.weight'], state['mlm_head.transform.2.bias']
    x = F.layer_norm(F.gelu(x), x.shape[-1:], weight, bias, 1e-12)
    return x @ state['backbone.embedding.weight'].T + state['mlm_head.bias']


def projection(state, cls):
    """The contrast head in evaluation mode."""
    x = F.linear(cls, state['cls_head.mlp.linear_0.weight'], state['cls_head.mlp.linear_0.bias'])
    names = ('running_mean', 'running_var', 'weight', 'bias')
    mean, var, weight, bias = (state[f'cls_head.mlp.bn_0.{name}'] for name in names)
    x = (x - mean) / (var + 1e-5).sqrt() * weight + bias
    return F.relu(x) @ state['cls_head.mlp.linear_1.weight'].T
