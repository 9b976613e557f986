r"""Compare the contour generators: time, and how far their contours agree.

Without a checkpoint the weights are random, with logits of a trained model's spread, and thresholds
that let a third of the masks pass the first filter and half of those the second. Example::

    OMP_NUM_THREADS=1 python benchmarks/contours.py pictures/*.jpg --model-type vit_b
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
from bimm_mm.contours.sam import OriginalGenerator, load_sam
from bimm_mm.contours.segmenters import SamSegmenter

SPREAD = 8.0  # standard deviation of the logits that random weights are scaled to


@torch.inference_mode()
def random_sam(model_type: str, device: str, image: np.ndarray) -> torch.nn.Module:
    """Build a Sam of random weights, whose masks have outlines as those of a trained one.

    They differ over the picture, have no pattern of pixels, cover half of it on average, and their
    logits are spread as far.
    """
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    sam = sam_model_registry[model_type]().to(device).eval().requires_grad_(False)
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
    segmenter = SamSegmenter(sam)
    generator = ContourGenerator(segmenter, points_per_side=8)
    upscaled = []
    act = sam.mask_decoder.output_upscaling[-1]
    hook = act.register_forward_hook(lambda module, args, output: upscaled.append(output))
    found = segmenter.decode(segmenter.encode([image])[0], generator.points, 0.0)
    hook.remove()
    size = reduced_size(image.shape[:2], 256)
    return resize_logits(found.logits, found.extent, size), found.scores, upscaled[0][None]


def find_thresholds(sam: torch.nn.Module, image: np.ndarray) -> dict:
    """Find thresholds that keep a third of the masks, and half of those."""
    logits, scores, _ = decode(sam, image)
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
    args = parser.parse_args()
    images = [read_image(path) for path in args.images]
    settings = dict(pred_iou_thresh=0.88, stability_score_thresh=0.95)
    if args.checkpoint:
        sam = load_sam(args.checkpoint, args.model_type, args.device)
    else:
        sam = random_sam(args.model_type, args.device, images[0])
        settings = find_thresholds(sam, images[0])
    settings |= dict(points_per_side=args.points_per_side, short_side=256)
    print(f'{torch.__version__}, {args.device}, {torch.get_num_threads()} threads, {settings}')
    print('| generator | s a picture | CPU s | times | CPU times | F1 at 1 px | line pixels |')
    print('|---|---:|---:|---:|---:|---:|---:|')
    original = OriginalGenerator(sam, points_per_batch=64, **settings)
    wanted, seconds, busy = measure(original, images, args.device)
    share = np.mean([contour.mean() for contour in wanted])
    print(f'| original | {seconds:.1f} | {busy:.1f} | 1 | 1 | | {share:.1%} |', flush=True)
    for name in args.dtypes:
        segmenter = SamSegmenter(sam, getattr(torch, name), args.compile)
        generator = ContourGenerator(segmenter, points_per_batch=args.points_per_batch, **settings)
        if args.compile or args.device != 'cpu':
            generator(images[:1])
        contours, now, cpu = measure(generator, images, args.device)
        f1 = np.mean([agreement(*pair) for pair in zip(contours, wanted, strict=True)])
        share = np.mean([contour.mean() for contour in contours])
        print(
            f'| batched, {name}, {generator.points_at_a_time.size} points | {now:.1f} | {cpu:.1f} '
            f'| {seconds / now:.1f} | {busy / cpu:.1f} | {f1:.3f} | {share:.1%} |',
            flush=True,
        )


if __name__ == '__main__':
    main()
