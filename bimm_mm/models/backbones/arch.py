"""The sizes of encoders, and the arguments that name their blocks."""

from collections.abc import Sequence

ARCHS = {
    'tiny': dict(embed_dims=192, depth=12, num_heads=3),
    'small': dict(embed_dims=384, depth=12, num_heads=6),
    'base': dict(embed_dims=768, depth=12, num_heads=12),
    'large': dict(embed_dims=1024, depth=24, num_heads=16),
}


def read_arch(arch: str | dict) -> dict:
    """A name, or a dict of sizes, to ``embed_dims``, ``depth``, ``num_heads`` and ``mlp_ratio``.

    Raises:
        ValueError: The name is unknown, or the dict has other keys.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise ValueError(f"arch='{arch}' must be one of {', '.join(ARCHS)}, or a dict")
        arch = ARCHS[arch]
    wanted = {'embed_dims', 'depth', 'num_heads'}
    if not wanted <= set(arch) <= wanted | {'mlp_ratio'}:
        raise ValueError(
            f'arch={dict(arch)} must have embed_dims, depth and num_heads, and may have mlp_ratio; '
            "one that a recipe inherits is merged with the base's, unless it has _delete_=True"
        )
    return dict(mlp_ratio=4.0) | dict(arch)


def read_stage_ends(ends: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    """Number of blocks after which each stage ends; the paper's fractions where None is given.

    Raises:
        ValueError: They do not increase up to the depth.
    """
    if ends is None:
        ends = sorted({max(depth // 6, 1), max(depth // 3, 1), depth})
    ends = tuple(ends)
    whole = all(isinstance(end, int) for end in ends)
    # the last one is the depth: with a set of both, one beyond it would pass
    increasing = bool(ends) and whole and list(ends) == sorted(set(ends))
    if not increasing or ends[0] < 1 or ends[-1] != depth:
        fitting = read_stage_ends(None, depth)
        raise ValueError(
            f'stage_ends={ends} must increase from at least 1 up to the depth, {depth}, in whole '
            f"numbers of blocks; stage_ends=None takes the paper's fractions, {fitting}"
        )
    return ends


def read_out_indices(
    indices: Sequence[int] | str | None, stage_ends: tuple[int, ...]
) -> tuple[int, ...]:
    """Blocks, counted from 0, whose outputs are returned; the last one where None is given.

    Raises:
        ValueError: They do not increase, are not within the blocks, or are another word than
            'stages'.
    """
    depth = stage_ends[-1]
    if isinstance(indices, str):
        if indices != 'stages':
            raise ValueError(f"out_indices='{indices}' must be 'stages' or a list of blocks")
        indices = [end - 1 for end in stage_ends]
    indices = [-1] if indices is None else list(indices)
    resolved = tuple(index % depth for index in indices)
    out_of_range = any(not -depth <= index < depth for index in indices)
    if out_of_range or list(resolved) != sorted(set(resolved)) or not resolved:
        raise ValueError(
            f'out_indices={tuple(indices)} must increase within the blocks, '
            f'0 to {depth - 1} (or negative from the end)'
        )
    return resolved
