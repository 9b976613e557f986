"""Apply a trained model to videos from Python.

    from bimm_mm.apis import VideoModel
    model = VideoModel('configs/bimm/finetune_k400_vitb.py', 'epoch_75.pth')
    model.classify('clip.mp4')

Needs what the config's pipeline needs, mmaction2 as a rule. ``import bimm_mm`` does not import it.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from .datasets.transforms.loading import TIMEOUT, decode_elsewhere
from .engine.screen import silence_upstream
from .models.checkpoints import check_fit, forget_initialization, read_checkpoint
from .models.checkpoints import load_encoder as load_encoder_weights
from .models.encoders import Encoder, EncoderOutput, load_encoder
from .utils.files import printable
from .utils.media import VIDEOS, list_media
from .video import VideoError

__all__ = [
    'Encoder',
    'EncoderOutput',
    'Prediction',
    'VideoError',
    'VideoModel',
    'find_videos',
    'load_encoder',
    'run',
]


@dataclass(frozen=True)
class Prediction:
    """Predicted class and its score.

    Attributes:
        label: Counted from 0.
        score: In [0, 1].
        name: Of the class, where names are known.
    """

    label: int
    score: float
    name: str | None = None


class VideoModel:
    """Recognizer, or encoder alone, for video files.

    Videos go through the pipeline of the config's ``test_dataloader``; scores and features are
    averaged over its clips and crops.

    Args:
        config: A config file or a Config with ``model`` and ``test_dataloader``, as the finetuning
            recipes.
        checkpoint: A finetuned model; for features, an exported encoder or a pretraining
            checkpoint, of which the dorsal branch is taken, will do.
        device: 'cuda', 'cpu', ...; the accelerator, where there is one, by default.
        classes: Names of the classes, or a file with one per line. None for those that the
            checkpoint knows, as one trained on a folder per class does.

    Raises:
        FileNotFoundError: There is no config or checkpoint.
        ValueError: The checkpoint is none, would run code, or has no encoder that fits, or the
            config cannot test.
    """

    def __init__(
        self,
        config: str | os.PathLike | Config,
        checkpoint: str | os.PathLike,
        device: str | None = None,
        classes: Sequence[str] | str | os.PathLike | None = None,
    ) -> None:
        cfg = config if isinstance(config, Config) else Config.fromfile(config)
        cfg = cfg.copy()
        if not cfg.get('test_dataloader'):
            name = cfg.filename or 'the config'
            raise ValueError(
                f'{name} has no test_dataloader: a config of finetuning is needed, such as the one '
                'in the work folder of the checkpoint'
            )
        forget_initialization(cfg.model)
        self.scope = cfg.get('default_scope') or 'mmengine'
        init_default_scope(self.scope)
        with warnings.catch_warnings():
            silence_upstream()
            self.model = MODELS.build(cfg.model)
        self.misfit = self._load(checkpoint)
        self.model.eval().to(device or get_device())
        self.pipeline = Compose(cfg.test_dataloader.dataset.pipeline)
        decode_elsewhere(self.pipeline, TIMEOUT)
        if isinstance(classes, str | os.PathLike):
            classes = Path(classes).read_text().splitlines()
        self.classes = self._known_classes(checkpoint) if classes is None else classes

    def _known_classes(self, checkpoint: str | os.PathLike) -> list[str] | None:
        """Names that a Runner wrote into the checkpoint, of as many classes as the head has."""
        meta = read_checkpoint(checkpoint).get('meta') or {}
        names = (meta.get('dataset_meta') or {}).get('classes') or ()
        head = getattr(self.model, 'cls_head', None)
        number = getattr(head, 'num_classes', None)
        return list(names) if self.misfit is None and len(names) == number else None

    def _load(self, checkpoint: str | os.PathLike) -> ValueError | None:
        """Load the model, or else its encoder; return why the model did not load in that case."""
        state = read_checkpoint(checkpoint)['state_dict']
        try:
            check_fit(self.model, state, checkpoint)
        except ValueError as error:
            load_encoder_weights(self.model.backbone, checkpoint)
            if 'backbone.patch_embed.projection.weight' in state:
                return error  # of the head
            return ValueError(f'checkpoint {checkpoint} holds an encoder and no head')
        self.model.load_state_dict(state, strict=False)
        return None

    @torch.no_grad()
    def classify(self, video: str | os.PathLike, top: int | None = 5) -> list[Prediction]:
        """Predict the most likely classes of a video, best first.

        Args:
            video: The file.
            top: How many; all, if there are fewer, or for None.

        Raises:
            VideoError: The file cannot be decoded.
            OSError: It is missing, or may not be read.
            ValueError: The checkpoint has no head that fits.
        """
        if self.misfit is not None:
            raise ValueError(f'no classes, only features: {self.misfit}')
        (sample,) = self.model.test_step(pseudo_collate([self.read(video)]))
        scores, labels = sample.pred_score.topk(
            min(top or len(sample.pred_score), len(sample.pred_score))
        )
        return [
            Prediction(label, score, self.classes[label] if self.classes else None)
            for score, label in zip(scores.tolist(), labels.tolist(), strict=True)
        ]

    @torch.no_grad()
    def features(self, video: str | os.PathLike) -> np.ndarray:
        """Compute the features of a video, averaged over clips and crops.

        Args:
            video: The file.

        Returns:
            float32, (C,) where the backbone's ``out_type`` is 'cls_token' or
            'avg_featmap'; (1 + L, C) for 'raw', (C, T', H', W') for 'featmap'.

        Raises:
            VideoError: The file cannot be decoded.
            OSError: It is missing, or may not be read.
        """
        batch = pseudo_collate([self.read(video)])
        inputs = self.model.data_preprocessor(batch, False)['inputs']
        if inputs.dim() == 6:  # mmaction2's (1, views, C, T, H, W)
            inputs = inputs.flatten(0, 1)
        feature: Tensor = self.model.backbone(inputs)[-1]
        return feature.float().mean(0).cpu().numpy()

    def read(self, video: str | os.PathLike) -> dict:
        """Read a video through the pipeline, as a data set does."""
        path = str(video)
        with open(path, 'rb') as file:  # says by itself what is missing or may not be read
            if not file.read(1):
                raise VideoError(f'{printable(path)} is empty')
        init_default_scope(self.scope)
        try:
            return self.pipeline(dict(filename=path, label=-1, start_index=0, modality='RGB'))
        except ImportError:
            raise
        except Exception as error:  # each decoder has errors of its own, and none names the file
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise VideoError(f'{printable(path)} cannot be decoded: {reason[-1]}') from error


def find_videos(path: str | os.PathLike) -> list[Path]:
    """List the file itself, or the videos below a folder, sorted.

    Raises:
        FileNotFoundError: There is no such file or folder, or no video in it.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.exists():
        raise FileNotFoundError(f'no such file or folder: {path}')
    return [path / name for name in list_media(path, VIDEOS)]


def run(function: Callable, path: str | os.PathLike) -> Iterator[tuple[Path, object]]:
    """Call a function on a video or on each video of a folder; a broken one does not stop it.

    Args:
        function: ``model.classify``, ``model.features`` or another.
        path: A file or a folder.

    Yields:
        The file, and the function's result or, where the file cannot be used, the error.
    """
    for video in find_videos(path):
        try:
            yield video, function(video)
        except (VideoError, OSError) as error:
            yield video, error
