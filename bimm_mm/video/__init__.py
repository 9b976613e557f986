"""Read videos: one protocol, several decoders, one answer to what a video is (docs/videos.md).

Nothing here imports the rest of the package or OpenMMLab, so that a decoder can run in a process
of its own that starts at once.
"""

from .reader import (
    UnsupportedVideo,
    VideoError,
    VideoReader,
    VideoTimeout,
    installed_backends,
    open_video,
)

__all__ = [
    'UnsupportedVideo',
    'VideoError',
    'VideoReader',
    'VideoTimeout',
    'installed_backends',
    'open_video',
]
