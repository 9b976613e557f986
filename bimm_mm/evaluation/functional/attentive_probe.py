"""An attentive probe on frozen tokens: what an encoder knows, wherever it keeps it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .accuracy import Accuracy


def fit_attentive_probe(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    steps: int,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
) -> Accuracy:
    """Train :class:`AttentiveHead` on tokens that fit into memory, and test it.

    One learned query attends to all tokens, which a mean over them cannot do. AdamW, a cosine
    schedule with a tenth of the steps as warm-up, no augmentation. The recipes
    ``configs/bimm/attentive_*`` train the same head with augmented clips.

    Args:
        train: Tokens (N, L, C) and labels (N,), int64 from 0.
        test: Likewise.
        steps: Batches.
        batch_size: Samples of a batch.
        lr: Highest learning rate.
        seed: Of the head's weights and the order of the samples.

    Raises:
        ImportError: mmaction2 is not installed, which the head is a part for.
    """
    try:
        from ...models.heads.attentive_head import AttentiveHead
    except ImportError as error:
        raise ImportError(f'an attentive probe needs mmaction2: {error}') from error
    (x, y), (x_test, y_test) = train, test
    classes, width = int(y.max()) + 1, x.shape[2]
    heads = next(heads for heads in (12, 8, 6, 4, 3, 2, 1) if width % heads == 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loss = dict(type='mmaction.CrossEntropyLoss')  # not used; its default needs a scope
        head = AttentiveHead(classes, width, num_heads=heads, loss_cls=loss)
        head.init_weights()
        order = torch.cat([torch.randperm(len(x)) for _ in range(steps * batch_size // len(x) + 1)])
    optimizer = torch.optim.AdamW(head.parameters(), lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=0.1)
    for step in range(steps):
        chosen = order[step * batch_size : (step + 1) * batch_size]
        loss = F.cross_entropy(head((x[chosen],)), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        guesses = torch.cat([head((part,)).argmax(1) for part in x_test.split(256)])
    correct = (guesses == y_test).float().mean().item()
    return Accuracy(correct, len(y_test), 1 / classes)
