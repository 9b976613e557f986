"""Mean absolute error of a regression."""

from collections.abc import Sequence

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


@METRICS.register_module()
class MeanAbsoluteError(BaseMetric):
    """Mean absolute difference of ``pred_score`` and ``gt_label``, as ``regression/mae``."""

    default_prefix = 'regression'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the differences of a batch."""
        for sample in data_samples:
            error = (sample['pred_score'].cpu() - sample['gt_label'].cpu()).abs()
            self.results.append(error.mean().item())

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Average over all samples."""
        return dict(mae=sum(results) / len(results))
