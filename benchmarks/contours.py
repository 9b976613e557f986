r"""Compare the contour generators: time, and how far their contours agree.

Without a checkpoint the weights are random, with logits of a trained model's spread, and thresholds
that let a third of the masks pass the first filter and half of those the second. Example::

    OMP_NUM_THREADS=1 python benchmarks/contours.py pictures/*.jpg --model-type vit_b

What models cost, without the original beside them; SAM 2.1 is read from a folder::

    OMP_NUM_THREADS=1 python benchmarks/contours.py PICTURE --no-original --model-type vit_h
    OMP_NUM_THREADS=1 python benchmarks/contours.py PICTURE --model-type sam2 --checkpoint FOLDER
"""

import argparse
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch

from bimm_mm.contours.boundaries import reduced_size
from bimm_mm.contours.extraction import read_image
from bimm_mm.contours.generator import ContourGenerator, resize_logits
from bimm_mm.contours.sam import OriginalGenerator, load_sam, model_registry
from bimm_mm.contours.sam2 import Sam2Segmenter
from bimm_mm.contours.segmenters import SamSegmenter, Segmenter

SPREAD = 8.0  # standard deviation of the logits that random weights are scaled to


@torch.inference_mode()
def random_sam(model_type: str, device: str, image: np.ndarray) -> torch.nn.Module:
    """Build a Sam of random weights, whose masks have outlines as those of a trained one.

    They differ over the picture, have no pattern of pixels, cover half of it on average, and their
    logits are spread as far.
    """
    torch.manual_seed(0)
    sam = (
        model_registry(model_type)[model_type](checkpoint=None)
        .to(device)
        .eval()
        .requires_grad_(False)
    )
    for name, weight in sam.image_encoder.named_parameters():
        if 'rel_pos' in name or 'pos_embed' in name:  # zeros, as the original initializes them
            torch.nn.init.normal_(weight, std=0.02)
    decoder = sam.mask_decoder
    for layer in decoder.output_upscaling:
        if isinstance(layer, torch.nn.ConvTranspose2d):
            layer.weight.copy_(layer.weight.mean((2, 3), keepdim=True).expand_as(layer.weight))
    features = decode(sam, image)[2].flatten(0, 1)
    mean = torch.nn.functional.normalize(features.mean(0), dim=0)
    for mlp in decoder.output_hypernetworks_mlps:  # nothing of what all pixels have in common
        for parameter in mlp.layers[-1].parameters():
            parameter.sub_(torch.outer(mean, mean) @ parameter)
    spread = SPREAD / decode(sam, image)[0].std()
    for mlp in decoder.output_hypernetworks_mlps:
        for parameter in mlp.layers[-1].parameters():
            parameter.mul_(spread)
    decoder.iou_prediction_head.layers[-1].bias.add_(0.5)  # a threshold of 0 would be none
    return sam


@torch.inference_mode()
def decode(
    sam: torch.nn.Module, image: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Decode 64 points: logits (n, h, w), scores (n,), and upscaled features (P, h w, C)."""
    upscaled = []
    act = sam.mask_decoder.output_upscaling[-1]
    hook = act.register_forward_hook(lambda module, args, output: upscaled.append(output))
    logits, scores = find_masks(SamSegmenter(sam), image)
    hook.remove()
    return logits, scores, upscaled[0][None]


def find_masks(segmenter: Segmenter, image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the masks of 64 points: logits (n, h, w) and scores (n,)."""
    points = ContourGenerator(segmenter, points_per_side=8).points
    found = segmenter.decode(segmenter.encode([image])[0], points, 0.0)
    size = reduced_size(image.shape[:2], 256)
    return resize_logits(found.logits, found.extent, size), found.scores


@torch.inference_mode()
def find_thresholds(segmenter: Segmenter, image: np.ndarray) -> dict:
    """Find thresholds that keep a third of the masks, and half of those."""
    logits, scores = find_masks(segmenter, image)
    threshold = scores.quantile(2 / 3)
    logits = logits[scores > threshold]
    stability = (logits > 1).flatten(1).sum(1) / (logits > -1).flatten(1).sum(1)
    return dict(pred_iou_thresh=threshold.item(), stability_score_thresh=stability.median().item())


def agreement(contour: np.ndarray, wanted: np.ndarray) -> float:
    """Compute the F1 of two contours, where a pixel may lie one pixel aside."""
    around = np.ones((3, 3), np.uint8)
    near, near_wanted = (cv2.dilate(x.astype(np.uint8), around) > 0 for x in (contour, wanted))
    precision = (contour & near_wanted).sum() / max(contour.sum(), 1)
    recall = (wanted & near).sum() / max(wanted.sum(), 1)
    return 2 * precision * recall / max(precision + recall, 1e-9)


def measure(call: Callable, images: Sequence[np.ndarray], device: str) -> tuple[list, float, float]:
    """Run a generator: contours, seconds of the clock and of the processor for a picture."""
    start, busy = time.perf_counter(), time.process_time()
    contours = [call([image])[0] for image in images]
    if device != 'cpu':
        torch.cuda.synchronize()
    count = len(images)
    return contours, (time.perf_counter() - start) / count, (time.process_time() - busy) / count


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', nargs='+')
    parser.add_argument('--model-type', default='vit_b', help='default: vit_b')
    parser.add_argument('--checkpoint', help='default: random weights')
    parser.add_argument('--points-per-side', type=int, default=32, help='default: 32')
    parser.add_argument('--dtypes', nargs='+', default=['float32', 'bfloat16'])
    parser.add_argument('--points-per-batch', type=int, help='default: found by itself')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--compile', action='store_true', help='compile the image encoder')
    parser.add_argument('--no-original', action='store_true', help='time the batched one only')
    parser.add_argument(
        '--fit-thresholds',
        action='store_true',
        help='for random weights in CHECKPOINT: thresholds as without one',
    )
    args = parser.parse_args()
    if args.model_type == 'sam2' and not args.checkpoint:
        parser.error('--model-type sam2 needs --checkpoint FOLDER')
    images = [read_image(path) for path in args.images]
    settings = dict(pred_iou_thresh=0.88, stability_score_thresh=0.95)
    sam = None
    if args.model_type != 'sam2':
        if args.checkpoint:
            sam = load_sam(args.checkpoint, args.model_type, args.device)
        else:
            sam = random_sam(args.model_type, args.device, images[0])

    def build(dtype: torch.dtype) -> Segmenter:
        if sam is None:
            return Sam2Segmenter(args.checkpoint, args.device, dtype, args.compile)
        return SamSegmenter(sam, dtype, args.compile)

    if not args.checkpoint or args.fit_thresholds:
        settings = find_thresholds(build(torch.float32), images[0])
    settings |= dict(points_per_side=args.points_per_side, short_side=256)
    print(f'{torch.__version__}, {args.device}, {torch.get_num_threads()} threads, {settings}')
    print('| generator | s a picture | CPU s | times | CPU times | F1 at 1 px | line pixels |')
    print('|---|---:|---:|---:|---:|---:|---:|')
    wanted = None
    if sam is not None and not args.no_original:
        original = OriginalGenerator(sam, points_per_batch=64, **settings)
        wanted, seconds, busy = measure(original, images, args.device)
        share = np.mean([contour.mean() for contour in wanted])
        print(f'| original | {seconds:.1f} | {busy:.1f} | 1 | 1 | | {share:.1%} |', flush=True)
    for name in args.dtypes:
        segmenter = build(getattr(torch, name))
        generator = ContourGenerator(segmenter, points_per_batch=args.points_per_batch, **settings)
        if args.compile or args.device != 'cpu':
            generator(images[:1])
        contours, now, cpu = measure(generator, images, args.device)
        share = np.mean([contour.mean() for contour in contours])
        beside = ' | | '
        if wanted:
            f1 = np.mean([agreement(*pair) for pair in zip(contours, wanted, strict=True)])
            beside = f'{seconds / now:.1f} | {busy / cpu:.1f} | {f1:.3f}'
        print(
            f'| batched, {name}, {generator.points_at_a_time.size} points | {now:.1f} | {cpu:.1f} '
            f'| {beside} | {share:.1%} |',
            flush=True,
        )


if __name__ == '__main__':
    main()
