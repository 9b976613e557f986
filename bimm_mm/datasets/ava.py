"""AVA, on top of mmaction2 (which this module needs to be imported)."""

import numpy as np
from mmaction.datasets import AVADataset
from mmcv.transforms import BaseTransform
from mmengine.registry import DATASETS, TRANSFORMS

from .broken import ReplaceBroken


@DATASETS.register_module()
class AVAKeyframeDataset(ReplaceBroken, AVADataset):
    """mmaction2's AVADataset, where a keyframe is replaced if frames around it are broken.

    In evaluation a broken one is an error; see :class:`bimm_mm.datasets.broken.ReplaceBroken`.
    """


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
