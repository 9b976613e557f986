from .contrastive import contrastive_loss, gather_with_gradient, matching_loss
from .scores import accuracy, cross_entropy, explained_variance, weighted_mean

__all__ = [
    'accuracy',
    'contrastive_loss',
    'cross_entropy',
    'explained_variance',
    'gather_with_gradient',
    'matching_loss',
    'weighted_mean',
]
