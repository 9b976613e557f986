"""Export a finetuned recognizer to ONNX, or by torch.export, and check what it computes.

The input ``clip`` is (batch, 3, T, H, W) float32, RGB from 0 to 255, of the size that the config's
backbone is made for; normalization is part of the model. The output ``scores`` is (batch, classes),
before the softmax. The batch may be of any size. Names of the classes, where the checkpoint knows
them, are in the file as JSON: in ONNX's metadata under ``classes``, in ``classes.json`` of a .pt2.

OUT ends in .onnx, which onnxruntime computes and compares with PyTorch, or in .pt2, which
torch.export.load reads back for the same comparison. OUT is written only if they agree.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn

from bimm_mm.apis import VideoModel
from bimm_mm.cli.arguments import add_config_and_checkpoint, add_config_options, fail
from bimm_mm.config.loading import merge_config
from bimm_mm.engine.screen import silence_upstream

BATCHES = (2, 1, 3)  # of random clips that are compared; the first is traced


class Recogniser(nn.Module):
    """Normalisation, backbone and head of a recognizer as one module.

    Args:
        model: Mmaction2's Recognizer3D with a BimmViT.
        classes: Names of its classes, if they are known.
    """

    def __init__(self, model: nn.Module, classes: Sequence[str] | None = None) -> None:
        super().__init__()
        self.classes = classes
        self.backbone, self.head = model.backbone, model.cls_head
        self.register_buffer('mean', model.data_preprocessor.mean.view(3, 1, 1, 1))
        self.register_buffer('std', model.data_preprocessor.std.view(3, 1, 1, 1))

    def forward(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) RGB from 0 to 255, to (B, classes)."""
        return self.head(self.backbone((clip - self.mean) / self.std))

    def clips(self, batch: int) -> Tensor:
        """Random clips, (batch, 3, T, H, W)."""
        grid, patch = self.backbone.grid_size, self.backbone.patch_size
        size = [g * p for g, p in zip(grid, patch, strict=True)]
        generator = torch.Generator().manual_seed(batch)
        return torch.randint(256, (batch, 3, *size), generator=generator).float()


def build(cfg: Config, checkpoint: str) -> Recogniser:
    """The recognizer of a config with the weights of a checkpoint, on the CPU.

    Raises:
        FileNotFoundError: There is no checkpoint.
        ValueError: It is none, would run code, or is not of this model, head included.
    """
    model = VideoModel(cfg, checkpoint, device='cpu')
    if model.misfit is not None:
        raise ValueError(str(model.misfit))
    return Recogniser(model.model, model.classes).eval()


def export(model: Recogniser, path: Path) -> Callable[[Tensor], Tensor]:
    """Write the model; returns what another runtime computes with the file."""
    shapes = dict(clip={0: torch.export.Dim('batch')})
    program = torch.export.export(model, (model.clips(BATCHES[0]),), dynamic_shapes=shapes)
    names = None if model.classes is None else json.dumps(list(model.classes), ensure_ascii=False)
    if path.suffix == '.pt2':
        torch.export.save(program, path, extra_files={'classes.json': names} if names else None)
        return torch.export.load(path).module()

    import onnxruntime

    exported = torch.onnx.export(
        program, input_names=['clip'], output_names=['scores'], verbose=False
    )
    if names:
        exported.model.metadata_props['classes'] = names
    exported.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda clip: torch.from_numpy(session.run(None, {'clip': clip.numpy()})[0])


def compare(model: Recogniser, other: Callable[[Tensor], Tensor]) -> float:
    """The largest difference of any score, as a part of the largest score."""
    difference = 0.0
    for batch in BATCHES:
        clip = model.clips(batch)
        wanted = model(clip)
        error = (other(clip) - wanted).abs().max() / wanted.abs().max()
        difference = max(difference, float(error))
    return difference


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_and_checkpoint(parser, 'of the finetuned model', 'the model')
    parser.add_argument('out', metavar='OUT', help='file to write, .onnx or .pt2')
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1e-4,
        help='largest difference to PyTorch, as a part of the largest score; default: %(default)s',
    )
    add_config_options(parser, 'model.backbone.img_size=256')
    args = parser.parse_intermixed_args()
    if not args.out.endswith(('.onnx', '.pt2')):
        parser.error(f'{args.out}: must end in .onnx or .pt2')
    return args


@torch.no_grad()
def main() -> None:
    """Export into a temporary file, compare, and give it its name."""
    args = parse_args()
    silence_upstream()
    out = Path(args.out)
    try:
        if not out.parent.is_dir():
            raise FileNotFoundError(f'no folder {out.parent.absolute()} to write {out.name} into')
        model = build(merge_config(args.config, args.cfg_options, args.checkpoint), args.checkpoint)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f'.{out.name}.') as folder:
            path = Path(folder) / out.name
            difference = compare(model, export(model, path))
            print(f'largest difference to PyTorch: {difference:.1e} of the largest score')
            if not difference <= args.tolerance:
                raise ValueError(f'more than --tolerance {args.tolerance}: {out} was not written')
            os.replace(path, out)
    except (ImportError, OSError, ValueError) as error:  # ConfigError is a ValueError
        fail(error)
    print(f'{out}: {out.stat().st_size / 2**20:.1f} MiB')


if __name__ == '__main__':
    main()
