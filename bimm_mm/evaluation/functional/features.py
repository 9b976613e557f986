"""Features of a whole data set from a frozen encoder, with the labels of its samples."""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...config.check import ConfigError
from ...utils.workers import cores_and_processes, share_of, with_workers

Features = tuple[list[Tensor], dict[str, Tensor]]


@torch.no_grad()
def encode_dataset(
    encode: Callable[[Tensor], Sequence[Tensor]],
    preprocessor: nn.Module,
    data: DataLoader,
    labels: Sequence[str] = (),
) -> Features:
    """Encode a data set batch by batch, and average over the views of each sample.

    Args:
        encode: From normalized inputs, (B, C, H, W) or (B, C, T, H, W), to one or more features,
            (B, D) each.
        preprocessor: Turns a batch of the loader into normalized ``inputs``, (B, ...) or
            mmaction2's (B, views, ...).
        data: The loader, in a fixed order; without ``data_samples``, each input is a sample.
        labels: Attributes of a data sample that hold a class, counted from 0.

    Returns:
        The features, (N, D) float32 each, and for each label the classes, (N,) int64. All on the
        CPU.

    Raises:
        ValueError: A sample does not have such a label.
    """
    features: list[list[Tensor]] = []
    classes: dict[str, list[int]] = {label: [] for label in labels}
    for batch in data:
        samples = batch.get('data_samples') or ()
        for sample in samples:
            for label, values in classes.items():
                if label not in sample:
                    raise ValueError(f"label='{label}' is not in a sample, it has {sample.keys()}")
                values.append(int(sample.get(label)))
        x = preprocessor(batch)['inputs']
        x = x.flatten(0, 1) if x.dim() == 6 else x  # (B, views, ...) to (B * views, ...)
        views = len(x) // len(samples) if samples else 1  # clips and crops of one video
        parts = [part.float().cpu().unflatten(0, (-1, views)).mean(1) for part in encode(x)]
        features = features or [[] for _ in parts]
        for collected, part in zip(features, parts, strict=True):
            collected.append(part)
    return (
        [torch.cat(parts) for parts in features],
        {label: torch.tensor(values) for label, values in classes.items()},
    )


def mean_token_features(backbone: nn.Module, preprocessor: nn.Module, data: DataLoader) -> Tensor:
    """Mean patch token of each stage, side by side.

    Args:
        backbone: :class:`BimmViT` with ``out_type='raw'``, as inside a pretrainer.
        preprocessor: As of :func:`encode_dataset`.
        data: As of :func:`encode_dataset`.

    Returns:
        (N, stages * C) float32 on the CPU.
    """
    count = math.prod(backbone.grid_size)

    def encode(x: Tensor) -> list[Tensor]:
        return [torch.cat([tokens[:, -count:].mean(1) for tokens in backbone(x)], dim=1)]

    with _evaluating(backbone):
        return encode_dataset(encode, preprocessor, data)[0][0]


def block_features(
    backbone: nn.Module,
    preprocessor: nn.Module,
    data: DataLoader,
    labels: Sequence[str],
    with_tokens: bool = False,
) -> Features:
    """Mean patch token before the first and after every block.

    An image encoder that is given clips sees the middle frame of each. The output of a block is
    taken as it is, without the norms, which only the ends of stages have.

    Args:
        backbone: :class:`BimmViT`, with any ``out_type``.
        preprocessor: As of :func:`encode_dataset`.
        data: As of :func:`encode_dataset`.
        labels: As of :func:`encode_dataset`.
        with_tokens: Whether the patch tokens of the last block come, too, as one feature more,
            (N, L, C).

    Returns:
        depth + 1 features, (N, C) float32 each, the first of the embedded patches; and for each
        label the classes, (N,) int64. All on the CPU.

    Raises:
        ValueError: A sample does not have such a label.
    """

    def encode(x: Tensor) -> list[Tensor]:
        x, grid = backbone.embed(middle_frame(x, backbone))
        means = []
        for index in range(backbone.depth + 1):
            x = backbone.blocks[index - 1](x, grid) if index else x
            means.append(x[:, -math.prod(grid) :].mean(1))  # (B, [1 +] L, C) to (B, C)
        return [*means, x[:, -math.prod(grid) :]] if with_tokens else means

    with _evaluating(backbone):
        return encode_dataset(encode, preprocessor, data, labels)


def middle_frame(x: Tensor, backbone: nn.Module) -> Tensor:
    """Return the middle frames of clips, (B, C, T, H, W), for an image encoder; else ``x``."""
    return x[:, :, x.shape[2] // 2] if x.dim() == 5 and not backbone.is_video else x


def encode_labeled(
    encoder: nn.Module, preprocessor: nn.Module, data: DataLoader, label: str
) -> tuple[Tensor, Tensor]:
    """Last feature of an encoder and the class of each sample.

    Args:
        encoder: Returns a tuple of features, the last (B, C).
        preprocessor: As of :func:`encode_dataset`.
        data: As of :func:`encode_dataset`.
        label: Attribute of a data sample that holds its class, 'gt_label' as a rule.

    Returns:
        (N, C) float32 and (N,) int64, on the CPU.

    Raises:
        ValueError: A sample does not have such a label.
    """
    with _evaluating(encoder):
        (features,), labels = encode_dataset(
            lambda x: [encoder(x)[-1]], preprocessor, data, [label]
        )
    return features, labels[label]


class _evaluating:
    """Put a module into evaluation mode, and back into the mode it had."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.training = module, module.training

    def __enter__(self) -> None:
        self.module.eval()

    def __exit__(self, *error: object) -> None:
        self.module.train(self.training)


def labeled_loaders(cfg: Config) -> list[DataLoader]:
    """The loaders of training and test samples of a config, neither with augmentation.

    A pretraining config has ``probe_train`` and ``probe_test``. Of a recognition config, the
    videos of the training list are read as those of the validation list are.

    Raises:
        ConfigError: The config does not have labeled data.
    """
    if 'probe_train' in cfg and 'probe_test' in cfg:
        return [_build_loader(cfg[key]) for key in ('probe_train', 'probe_test')]
    if not cfg.get('val_dataloader'):
        raise ConfigError(
            f'{cfg.filename} has no labeled data: neither val_dataloader, nor probe_train and '
            'probe_test'
        )
    train = copy.deepcopy(cfg.val_dataloader)
    for key in ('data_root', 'ann_file', 'data_prefix'):
        train.dataset[key] = cfg.train_dataloader.dataset[key]
    return [_build_loader(loader) for loader in (train, cfg.val_dataloader)]


def _build_loader(settings: Config) -> DataLoader:
    """With as many workers as there are cores, where the config does not say how many."""
    loader = Runner.build_dataloader(settings)
    if 'num_workers' in settings:
        return loader
    return with_workers(loader, share_of(*cores_and_processes()), persistent=False)
