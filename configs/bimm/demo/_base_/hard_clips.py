# MovingShapesDataset's arguments for hard clips: 16 outlines, six textures of one contrast, another
# object behind, a post in front, and a camera that moves.
hard = dict(
    shapes='outlines',
    textures='waves',
    speeds=(1.0, 2.0),
    directions=4,
    camera_speeds=(0.0, 1.0, 2.0),
    distractors=1,
    occluders=1,
    # with 20.0, 0.22 and 1.0, the demo's encoder learned nothing of outlines from 13,824 labels
    max_turn=0.0,
    relief=0.35,
    clutter=0.3,
)
