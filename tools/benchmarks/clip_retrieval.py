"""How often the other clip of a video is the nearest one, among the clips of many videos.

For configs whose clips are those of a ClipViewsDataset, such as configs/vimpac/demo. The two clips
of a video are its first and its last frames, without one in common where it is long enough, each in
its own light (``color_jitter``). Two encoders that learned nothing are compared on the same clips:
the same one with random weights, and the frequencies of codes.

    python tools/benchmarks/clip_retrieval.py configs/vimpac/demo/vimpac_shapes.py iter_600.pth \
        --cfg-options train_dataloader.dataset.dataset.seed=7
"""

import argparse

import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import Tensor

import bimm_mm  # noqa: F401
from bimm_mm.cli.arguments import add_config_options, fail
from bimm_mm.config.loading import merge_config
from bimm_mm.datasets.clip_views import ClipViewsDataset, jitter_colors
from bimm_mm.models.checkpoints import check_fit
from bimm_mm.utils.checkpoint import read_checkpoint


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help="a config of VIMPAC's whose encoder has a tokenizer")
    parser.add_argument('checkpoint', help='of its training')
    parser.add_argument('--videos', type=int, default=300, help='default: %(default)s')
    add_config_options(parser, 'train_dataloader.dataset.dataset.seed=7')
    return parser.parse_args()


def read_pairs(dataset: ClipViewsDataset, count: int) -> tuple[Tensor, Tensor]:
    """The first and the last frames of some videos, (count, 3, T, H, W) uint8 each."""
    videos = torch.stack([dataset.dataset[index]['inputs'] for index in range(count)])
    length = dataset.num_frames
    torch.manual_seed(0)
    return tuple(
        jitter_colors(clips, dataset.color_jitter)
        for clips in (videos[:, :, :length], videos[:, :, -length:])
    )


@torch.no_grad()
def encode(model: torch.nn.Module, clips: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """Class tokens (B, C) and frequencies of codes (B, V) of clips."""
    tokens, frequencies = [], []
    for part in clips.split(50):
        inputs = model.data_preprocessor(dict(inputs=list(part.to(device))))['inputs']
        codes = model.read_codes(inputs)
        tokens.append(model.backbone.encode(codes)[0])
        classes = F.one_hot(codes.flatten(1), model.backbone.embedding.num_embeddings)
        frequencies.append(classes.float().mean(dim=1))
    return torch.cat(tokens), torch.cat(frequencies)


def share_found(first: Tensor, second: Tensor) -> float:
    """How often row i of ``second`` is the nearest one to row i of ``first`` (centered cosines)."""
    first, second = (F.normalize(x - x.mean(dim=0), dim=1) for x in (first, second))
    found = (first @ second.T).argmax(dim=1) == torch.arange(len(first), device=first.device)
    return float(found.float().mean())


def main() -> None:
    """Print the shares."""
    args = parse_args()
    try:
        state = read_checkpoint(args.checkpoint)['state_dict']
        cfg = merge_config(args.config, args.cfg_options, needs=('model', 'train_dataloader'))
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        if not isinstance(dataset, ClipViewsDataset):
            raise ValueError(f'{args.config}: train_dataloader.dataset must be a ClipViewsDataset')
        device = get_device()
        pairs = read_pairs(dataset, min(args.videos, len(dataset)))
        torch.manual_seed(0)
        model = MODELS.build(cfg.model).to(device).eval()
        random, frequencies = zip(*(encode(model, clips, device) for clips in pairs), strict=True)
        check_fit(model, state, args.checkpoint)
        model.load_state_dict(state, strict=False)
        trained, _ = zip(*(encode(model, clips, device) for clips in pairs), strict=True)
    except (ValueError, OSError) as error:  # ConfigError is a ValueError
        fail(error)
    count = len(pairs[0])
    print(
        f'of {count} videos, the other clip is the nearest one in {share_found(*trained):.1%} of '
        f'the cases; with random weights {share_found(*random):.1%}, by the frequencies of codes '
        f'{share_found(*frequencies):.1%}, by chance {1 / count:.1%}'
    )


if __name__ == '__main__':
    main()
