from .contrastive import contrastive_loss, gather_with_gradient
from .scores import accuracy, explained_variance, weighted_mean

__all__ = [
    'accuracy',
    'contrastive_loss',
    'explained_variance',
    'gather_with_gradient',
    'weighted_mean',
]
