from .pictures import BranchPicture, StagePicture, picture_branch
from .reconstruction import draw_reconstruction, save_figure
from .views import VIEWS, TargetView

__all__ = [
    'VIEWS',
    'BranchPicture',
    'StagePicture',
    'TargetView',
    'draw_reconstruction',
    'picture_branch',
    'save_figure',
]
