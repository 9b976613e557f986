import pytest
import torch

pytest.importorskip('mmaction', reason='the heads are mmaction2s')
from mmaction.structures import ActionDataSample  # noqa: E402

from bimm_mm.models.heads import AttentiveHead, BimmClsHead, RegressionHead  # noqa: E402


def labeled(*labels):
    return [ActionDataSample().set_gt_label(label) for label in labels]


def test_classifier_reads_the_last_feature():
    head = BimmClsHead(3, 8)
    head.init_weights()
    first, last = torch.randn(2, 2, 8)
    assert head((first, last)).equal(head.fc_cls(last))


def test_batch_norm_takes_the_scale_out():
    head = BimmClsHead(3, 8, batch_norm=True)
    assert not [name for name, _ in head.named_parameters() if name.startswith('norm')]
    x = torch.randn(64, 8)
    torch.testing.assert_close(head((x,)), head((1000 * x + 5,)), atol=1e-3, rtol=1e-3)


def test_label_smoothing_of_mixed_labels():
    head = BimmClsHead(2, 4, label_smooth_eps=0.1)
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    mixed = [torch.tensor([0.7, 0.3]), torch.tensor([0.0, 1.0])]
    loss = head.loss_by_feat(scores, labeled(*mixed))['loss_cls']
    smooth = 0.9 * torch.stack(mixed) + 0.05
    torch.testing.assert_close(loss, -(smooth * scores.log_softmax(1)).sum(1).mean())


def test_probabilities_are_averaged_over_the_views():
    head = BimmClsHead(3, 8, average_clips='prob')
    x = torch.randn(2 * 6, 8)
    samples = head.predict((x,), labeled(0, 1))
    wanted = head((x,)).softmax(1).view(2, 6, 3).mean(1)
    torch.testing.assert_close(torch.stack([s.pred_score for s in samples]), wanted)


def test_attentive_head_attends_to_all_tokens_in_any_order():
    torch.manual_seed(0)
    head = AttentiveHead(3, 8, num_heads=2)
    head.init_weights()
    tokens = torch.randn(2, 5, 8, requires_grad=True)
    scores = head((tokens,))
    assert scores.shape == (2, 3)
    torch.testing.assert_close(scores, head((tokens[:, [4, 2, 0, 1, 3]],)))
    scores.sum().backward()
    assert (tokens.grad.abs().sum(-1) > 0).all()
    assert all(p.grad is not None for p in head.parameters())


def test_attentive_head_is_that_of_torch():
    """The same weights in torch's MultiheadAttention."""
    torch.manual_seed(0)
    head = AttentiveHead(3, 8, num_heads=2)
    other = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([head.query.weight, head.key_value.weight]))
        other.in_proj_bias.copy_(torch.cat([head.query.bias, head.key_value.bias]))
        other.out_proj.weight.copy_(torch.eye(8))
        other.out_proj.bias.zero_()
        head.query_token.normal_()
        tokens = torch.randn(2, 5, 8)
        query = head.query_token.expand(2, -1, -1)
        x = query + other(query, *[head.norm1(tokens)] * 2)[0]
        wanted = head.fc_cls((x + head.mlp(head.norm2(x)))[:, 0])
        torch.testing.assert_close(head((tokens,)), wanted)


def test_regression_averages_views_and_has_the_smooth_l1_loss():
    head = RegressionHead(2, 8)
    x = torch.randn(2 * 3, 8)
    samples = head.predict((x,), labeled(torch.zeros(2), torch.ones(2)))
    wanted = head((x,)).view(2, 3, 2).mean(1)
    torch.testing.assert_close(torch.stack([s.pred_score for s in samples]), wanted)
    loss = head.loss_by_feat(torch.tensor([[2.0, 0.0]]), labeled(torch.zeros(2)))['loss_reg']
    assert loss == pytest.approx((2 - 0.5) / 2)


def test_labels_of_another_length_are_an_error():
    head = RegressionHead(2, 8)
    with pytest.raises(ValueError, match='num_outputs=2, but the labels have 1'):
        head.loss((torch.randn(2, 8),), labeled(torch.zeros(1), torch.zeros(1)))


@pytest.mark.parametrize(
    'head, shape, wanted',
    [
        (BimmClsHead(3, 8), (2, 5, 8), 'cls_token'),
        (RegressionHead(3, 8), (2, 5, 8), 'avg_featmap'),
        (AttentiveHead(3, 8, num_heads=2), (2, 8), 'raw'),
    ],
)
def test_another_out_type_is_an_error(head, shape, wanted):
    with pytest.raises(ValueError, match=f"out_type=.*'{wanted}'"):
        head((torch.randn(shape),))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match='in_channels=8 is not a multiple of num_heads=3'):
        AttentiveHead(2, 8, num_heads=3)


@pytest.mark.parametrize(
    'head, feature, labels',
    [
        (BimmClsHead(6, 8), (2, 8), (0, 1)),
        (AttentiveHead(6, 8, num_heads=2), (2, 5, 8), (0, 1)),
        (RegressionHead(1, 8), (2, 8), (torch.zeros(1), torch.ones(1))),
    ],
)
def test_heads_train_under_autocast(head, feature, labels):
    """mmaction2 counts hits in numpy, which has no bfloat16."""
    head.init_weights()
    with torch.autocast('cpu', torch.bfloat16):
        losses = head.loss((torch.randn(feature),), labeled(*labels))
    assert all(value.dtype in (torch.float32, torch.float64) for value in losses.values())
