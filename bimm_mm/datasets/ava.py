"""AVA, on top of mmaction2 (which this module needs to be imported)."""

import os
from functools import lru_cache

import numpy as np
from mmaction.datasets import AVADataset
from mmaction.datasets.transforms import SampleAVAFrames
from mmcv.transforms import BaseTransform
from mmengine.registry import DATASETS, TRANSFORMS

from .broken import ReplaceBroken


@DATASETS.register_module()
class AVAKeyframeDataset(ReplaceBroken, AVADataset):
    """mmaction2's AVADataset, where a keyframe is replaced if frames around it are broken.

    In evaluation a broken one is an error; see :class:`bimm_mm.datasets.broken.ReplaceBroken`.
    """

    how_to_leave_out = 'add "video,second" to exclude_file, of the data set and of the evaluator'

    def missing(self) -> list[str]:
        """Tell which keyframes lack frames, by their names: one line ``video,second: ...`` each."""
        sample = self.pipeline.transforms[0]
        if not (self.use_frames and isinstance(sample, SampleAVAFrames)):
            return super().missing()
        if not self._fully_initialized:
            self.full_init()
        files_in = lru_cache(4)(_files_in)  # keyframes of a video follow each other
        state, found = np.random.get_state(), []  # the transform draws, whether it needs to or not
        for index in range(len(self)):
            info = self.get_data_info(index)
            names = map(info['filename_tmpl'].format, np.unique(sample(info)['frame_inds']))
            gone = [name for name in names if name not in files_in(info['frame_dir'])]
            if gone:
                more = f' and {len(gone) - 1} more' if len(gone) > 1 else ''
                found.append(f'{info["img_key"]}: {info["frame_dir"]} lacks {gone[0]}{more}')
        np.random.set_state(state)
        return found


def _files_in(folder: str) -> frozenset[str]:
    return frozenset(os.listdir(folder) if os.path.isdir(folder) else ())


@TRANSFORMS.register_module()
class GroundTruthBoxesOnly(BaseTransform):
    """Train a detector on the annotated boxes alone (paper: appendix A).

    mmaction2's FastRCNN asks each sample for proposals, and its sampler adds the annotated boxes to
    them (``add_gt_as_proposals=True``). This transform gives it none, so that only those are left.
    """

    def transform(self, results: dict) -> dict:
        """Set ``proposals`` to a (0, 4) float32 array."""
        results['proposals'] = np.zeros((0, 4), np.float32)
        return results
