"""Keep what a classifier said of each sample, for tables and files."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


@METRICS.register_module()
class ClassificationResults(BaseMetric):
    """Collect labels and scores of all samples, in the order of the data set; adds no metric.

    Attributes:
        labels: (N,) int64, of all samples, after the evaluation on the main process.
        scores: (N, classes) float32.
    """

    default_prefix = 'results'
    labels: torch.Tensor | None = None
    scores: torch.Tensor | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep label and scores of a batch; samples with several labels are left out."""
        for sample in data_samples:
            label = torch.as_tensor(sample['gt_label']).flatten()
            if len(label) == 1:
                scores = torch.as_tensor(sample['pred_score']).flatten()
                self.results.append((int(label), scores.float().cpu()))

    def compute_metrics(self, results: list[tuple[int, torch.Tensor]]) -> dict[str, float]:
        """Join them."""
        if results:
            self.labels = torch.tensor([label for label, _ in results])
            self.scores = torch.stack([scores for _, scores in results])
        return {}
