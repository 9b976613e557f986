"""Data sets of videos that are decoded in another process, and broken ones replaced."""

from .broken import ReplaceBroken
from .transforms.loading import TIMEOUT, RemoteDecordInit, decode_elsewhere

__all__ = ['RemoteDecordInit', 'ReplaceBrokenVideos', 'decode_elsewhere']


class ReplaceBrokenVideos(ReplaceBroken):
    """For mmaction2's datasets of videos: decoded in another process, and broken ones replaced.

    Args:
        *args: Of the data set.
        decode_timeout: Seconds, see :func:`bimm_mm.datasets.transforms.loading.decode_elsewhere`.
        **kwargs: Of the data set.
    """

    def __init__(self, *args, decode_timeout: float = TIMEOUT, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        decode_elsewhere(self.pipeline, decode_timeout)
