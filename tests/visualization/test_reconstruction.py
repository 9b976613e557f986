import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

import bimm_mm  # noqa: F401
from bimm_mm.datasets import MovingShapesDataset
from bimm_mm.visualization import draw_reconstruction, picture_branch, save_figure
from bimm_mm.visualization.canvas import outline
from bimm_mm.visualization.views import HIDDEN


def branch_config(video, v1='masked'):
    decoder = dict(type='TransformerDecoder', embed_dims=16, depth=1, num_heads=2)
    backbone = dict(
        type='BimmViT',
        arch=dict(embed_dims=24, depth=3, num_heads=2),
        img_size=32,
        patch_size=8,
        stage_ends=(1, 2, 3),
    )
    last = dict(type='MotionTarget' if video else 'PixelTarget')
    return dict(
        backbone=backbone | dict(num_frames=8, tubelet_size=2) if video else backbone,
        masking=dict(type='TubeMasking' if video else 'RandomMasking', ratio=0.75),
        neck=dict(
            type='MultiStageDecoder',
            decoders=[dict(type='LinearDecoder', embed_dims=16, predict=v1), decoder, decoder],
        ),
        targets=[dict(type='GaborTarget'), dict(type='EdgeContourTarget'), last],
    )


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    config = dict(ventral=branch_config(False), dorsal=branch_config(True, v1='visible'))
    return MODELS.build(dict(type='DualBranchPretrainer', **config)).eval()


@pytest.fixture(scope='module')
def clips(model):
    dataset = MovingShapesDataset(3, cache=False)
    return model.data_preprocessor(dict(inputs=[dataset[i]['inputs'] for i in range(3)]))['inputs']


@pytest.fixture(scope='module')
def results(model, clips):
    return model(clips, mode='predict')


def picture(model, results, name, **kwargs):
    preprocessor = model.data_preprocessor
    return picture_branch(
        model.branches[name], results[name], preprocessor.mean, preprocessor.std, **kwargs
    )


def enlarged(tokens, shape):
    """(B, T', H', W') tokens to (B, T, H, W)."""
    for axis in (1, 2, 3):
        tokens = tokens.repeat(shape[axis] // tokens.shape[axis], axis=axis)
    return tokens


def test_originals_are_the_pixels_of_the_chosen_samples(model, results):
    dataset = MovingShapesDataset(3, cache=False)
    original = picture(model, results, 'dorsal', samples=(2, 0)).original
    for place, sample in enumerate((2, 0)):
        pixels = dataset[sample]['inputs'].permute(1, 2, 3, 0).numpy()
        np.testing.assert_allclose(original[place] * 255, pixels, atol=1e-2)


def test_a_stage_that_predicts_what_is_visible_says_so(model, results):
    notes = {
        name: [stage.view.note for stage in picture(model, results, name).stages.values()]
        for name in ('ventral', 'dorsal')
    }
    said = {name: ['of visible patches' in note for note in notes[name]] for name in notes}
    assert said == {'ventral': [False] * 3, 'dorsal': [True, False, False]}


@pytest.mark.parametrize('name', ['ventral', 'dorsal'])
def test_masked_frames_hide_exactly_the_masked_patches(model, results, name):
    made = picture(model, results, name)
    tokens = np.zeros(made.visible[0].size, dtype=bool)
    tokens[results[name].ids_keep[0].numpy()] = True
    assert (made.visible[0].reshape(-1) == tokens).all()
    visible = enlarged(made.visible, made.original.shape)
    assert (made.masked[visible] == made.original[visible]).all()
    assert (made.masked[~visible] == np.float32(HIDDEN)).all()


@pytest.mark.parametrize('name', ['ventral', 'dorsal'])
def test_predictions_are_completed_with_the_target_or_gray(model, results, name):
    whole = picture(model, results, name)
    alone = picture(model, results, name, composite=False)
    assert list(whole.stages) == model.branches[name].names
    for key, stage in whole.stages.items():
        ids = results[name].ids[key][0]
        assert sorted(np.flatnonzero(stage.predicted[0])) == ids.tolist()
        predicted = enlarged(stage.predicted, stage.target.shape)
        assert (stage.prediction[~predicted] == stage.target[~predicted]).all()
        only = alone.stages[key].prediction
        assert (only[~predicted] == np.float32(HIDDEN)).all()
        assert (only[predicted] == stage.prediction[predicted]).all()
        assert not np.allclose(stage.prediction[predicted], stage.target[predicted])


def test_a_perfect_prediction_looks_like_the_target(model, results):
    result = results['dorsal']
    perfect = type(result)(**vars(result) | dict(predictions=result.targets))
    for stage in picture(model, dict(dorsal=perfect), 'dorsal').stages.values():
        np.testing.assert_allclose(stage.prediction, stage.target, atol=1e-5)


def test_a_prediction_that_is_nan_does_not_look_like_the_target(model, results):
    result = results['dorsal']
    broken = {name: torch.full_like(x, torch.nan) for name, x in result.predictions.items()}
    broken = type(result)(**vars(result) | dict(predictions=broken))
    for stage in picture(model, dict(dorsal=broken), 'dorsal').stages.values():
        predicted = enlarged(stage.predicted, stage.target.shape)
        assert (stage.prediction[predicted] == np.float32(HIDDEN)).all()


def test_a_figure_is_written_with_everything_inside(model, results, tmp_path):
    figure = draw_reconstruction(model, results, title='Three shapes')
    path = save_figure(figure, tmp_path / 'new' / 'picture.png')
    image = cv2.imread(str(path))
    width, height = figure.get_size_inches() * figure.dpi
    assert image.shape == (round(height), round(width), 3)
    assert (image[:4] == 255).all() and (image[:, :4] == 255).all()
    assert (image[-4:] == 255).all() and (image[:, -4:] == 255).all()
    words = [text.get_text() for text in figure.texts]
    for row in ('target', 'prediction'):
        assert sum(word.split('\n')[0] == row for word in words) == 6
    for word in ('Three shapes', 'frame 6', 'V4 (block 3): pixels', 'MT (block 3): motion'):
        assert word in words
    assert '8 frames, 75% of 64 cubes masked' in words
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts if text.get_text()]
    for index, box in enumerate(boxes):
        assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:index])


def test_images_are_shown_pixel_by_pixel(model, results, tmp_path):
    figure = draw_reconstruction(model, results, frames=[3])
    image = cv2.imread(str(save_figure(figure, tmp_path / 'picture.png')))[..., ::-1]
    axes = [a for a in figure.axes if a.images and a.images[0].get_array().shape[:2] == (32, 32)]
    assert axes
    for axis in axes:
        box = axis.get_window_extent()
        top, left = round(image.shape[0] - box.y1), round(box.x0)
        cell = image[top : top + 224, left : left + 224].reshape(32, 7, 32, 7, 3)
        expected = np.asarray(axis.images[0].get_array(), dtype=float) * 255
        np.testing.assert_allclose(cell[:, 3, :, 3], expected, atol=1)


def test_columns_are_the_frames_of_the_chosen_samples(model, results):
    figure = draw_reconstruction(model, results, samples=(2, 1), frames=(0, 7))
    words = [text.get_text() for text in figure.texts]
    headings = [word for word in words if word.startswith('sample')]
    assert headings[2:] == [f'sample {s}, frame {t}' for s in (2, 1) for t in (0, 7)]
    for heading, sample in zip(headings[:2], (2, 1), strict=True):  # the image's own frame
        frame = int(heading.split()[-1])
        image, clip = results['ventral'].x[sample], results['dorsal'].x[sample]
        assert torch.equal(image, clip[:, frame])


def test_a_single_branch_on_images_is_drawn(tmp_path):
    config = branch_config(False)
    config['targets'] = config['targets'][2:]
    config['neck']['decoders'] = config['neck']['decoders'][2:]
    config['backbone']['stage_ends'] = (3,)
    model = MODELS.build(dict(type='SingleBranchPretrainer', ventral=config)).eval()
    results = model(torch.randn(2, 3, 32, 32), mode='predict')
    figure = draw_reconstruction(model, results, samples=range(2), composite=False)
    words = [text.get_text() for text in figure.texts]
    assert {'sample 0', 'sample 1', 'Stage 1 (block 3): pixels'} <= set(words)
    assert save_figure(figure, tmp_path / 'picture.png').stat().st_size > 0


def test_outlines_surround_the_chosen_tokens():
    tokens = np.array([[True, True, False], [False, True, False]])
    lines = {frozenset(line) for line in outline(tokens)}
    around = [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2), (1, 1), (0, 1), (0, 0)]
    assert lines == {frozenset(pair) for pair in zip(around, around[1:], strict=False)}


def test_what_was_not_predicted_is_outlined(model, results):
    def outlines(composite):
        figure = draw_reconstruction(model, results, frames=[0], composite=composite)
        rows = [axes for axes in figure.axes if axes.collections]
        assert all(axes.collections[0].get_edgecolor().shape == (1, 4) for axes in rows)
        return len(rows)

    # masked frames of both branches, and six stages where they are completed
    assert outlines(True) == 8
    assert outlines(False) == 2


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(samples=(0, 3)), r'samples=\(0, 3\).* 0 to 2'),
        (dict(samples=(-1,)), 'samples=.* 0 to 2'),
        (dict(samples=()), r'samples=\(\)'),
        (dict(frames=(8,)), r'frames=\(8,\).* 0 to 7'),
    ],
)
def test_samples_and_frames_must_be_there(model, results, kwargs, message):
    with pytest.raises(IndexError, match=message):
        draw_reconstruction(model, results, **kwargs)


def test_other_modes_cannot_be_drawn(model, clips):
    with torch.no_grad(), pytest.raises(TypeError, match="mode='predict'"):
        draw_reconstruction(model, model(clips, mode='tensor'))
