"""What can be wrong with a video."""


class VideoError(ValueError):
    """A video cannot be read; the message is the reason, without the path."""


class UnsupportedVideo(VideoError):
    """A backend cannot read this kind of video, though the file may be fine."""


class VideoTimeout(VideoError):
    """The decoder did not answer in time."""


def unsupported(backend: str, what: str, instead: str = 'pyav') -> UnsupportedVideo:
    """The error to raise where ``backend`` cannot read ``what``, but ``instead`` can."""
    return UnsupportedVideo(f"{backend} cannot read {what}; {instead} can (backend='{instead}')")
