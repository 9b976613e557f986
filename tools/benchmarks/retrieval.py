"""Text-to-video retrieval: how well a pretrained model finds videos by their captions.

Example::

    python tools/benchmarks/retrieval.py configs/tgm/demo/tgm_shapes.py \
        work_dirs/tgm_shapes/iter_1600.pth

The config has a ``VideoTextContrast`` among its objectives, and a ``retrieval_dataloader`` whose
samples have captions. Videos are not masked.
"""

import argparse

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn

import bimm_mm  # noqa: F401
from bimm_mm.cli.arguments import add_config_options, fail
from bimm_mm.config.check import ConfigError
from bimm_mm.config.loading import merge_config
from bimm_mm.evaluation.functional.retrieval import text_to_video
from bimm_mm.models import VideoTextContrast
from bimm_mm.models.checkpoints import check_fit
from bimm_mm.utils.checkpoint import read_checkpoint


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='a pretraining config with a contrast of video and text')
    parser.add_argument('checkpoint', nargs='?', help='of pretraining; default: random weights')
    add_config_options(parser, 'retrieval_dataloader.batch_size=4')
    return parser.parse_args()


@torch.no_grad()
def embed(
    cfg: Config, state: dict[str, Tensor] | None, name: str
) -> tuple[Tensor, Tensor, list[str]]:
    """Embeddings of the videos, of their captions, and the captions.

    Raises:
        ConfigError: The config has no contrast.
        ValueError: The weights do not fit.
    """
    torch.manual_seed(0)  # for random weights
    model = MODELS.build(cfg.model)
    contrasts = [m for m in model.modules() if isinstance(m, VideoTextContrast)]
    if not contrasts:
        raise ConfigError(f'the model of {cfg.filename} has no VideoTextContrast in its objectives')
    if state is not None:
        check_fit(model, state, name)
        model.load_state_dict(state, strict=False)
    model = model.eval().to(get_device())
    videos, texts, captions = [], [], []
    for batch in Runner.build_dataloader(cfg.retrieval_dataloader):
        data = model.data_preprocessor(batch)
        captions += data['caption']
        videos.append(embed_videos(model, contrasts[0], data).cpu())
        texts.append(contrasts[0].text(data['caption'], data['inputs'].device).cpu())
    return torch.cat(videos), torch.cat(texts), captions


def embed_videos(model: nn.Module, contrast: VideoTextContrast, data: dict) -> Tensor:
    """Embed the videos of a batch, (B, D), with nothing masked."""
    branch = contrast.branch or next(iter(model.branches))
    features = model.extract_feat(data['inputs'])[branch][-1]
    has_class_token = getattr(model.branches[branch].backbone, 'cls_token', None) is not None
    return contrast.embed_videos(features[:, int(has_class_token) :])


def main() -> None:
    """Embed, and print the recalls."""
    args = parse_args()
    try:
        state = read_checkpoint(args.checkpoint)['state_dict'] if args.checkpoint else None
        cfg = merge_config(args.config, args.cfg_options, needs=('model', 'retrieval_dataloader'))
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        print(text_to_video(*embed(cfg, state, args.checkpoint)))
    except (ImportError, OSError, ValueError) as error:  # ConfigError is a ValueError
        fail(error)


if __name__ == '__main__':
    main()
