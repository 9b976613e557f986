from .animation import animate_reconstruction, save_animation
from .confusion import draw_confusion
from .inputs import read_clip, read_image
from .pictures import BranchPicture, StagePicture, picture_branch
from .reconstruction import draw_reconstruction, save_figure
from .views import VIEWS, TargetView

__all__ = [
    'VIEWS',
    'BranchPicture',
    'StagePicture',
    'TargetView',
    'animate_reconstruction',
    'draw_confusion',
    'draw_reconstruction',
    'picture_branch',
    'read_clip',
    'read_image',
    'save_animation',
    'save_figure',
]
