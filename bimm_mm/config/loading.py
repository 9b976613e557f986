"""Load a config file and merge overrides into it."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from .arguments import did_you_mean
from .check import RUNNER_KEYS, TOOL_KEYS, ConfigError, check_options
from .from_checkpoint import config_of_checkpoint
from .paths import CONFIGS
from .variables import RecipeError, overshadowed, read_file, set_variables, variables_of


def find_config(path: str | os.PathLike, folder: str | os.PathLike = CONFIGS) -> Path:
    """Find a config file by its path, or a recipe by its bare name, from any folder.

    Args:
        path: A file, ``'configs/bimm/joint_k400_vitb.py'`` below the folder of recipes, or
            ``'joint_k400_vitb'``.
        folder: The folder of recipes.

    Raises:
        ConfigError: There is no such file, or several recipes have the name; the message says
            which, or which names are most like it.
    """
    path, folder = Path(path), Path(folder)
    if path.is_file():
        return path
    below = folder.parent / path
    if not path.is_absolute() and path.parts[:1] == (folder.name,) and below.is_file():
        return below
    recipes = {str(file): file.stem for file in sorted(folder.rglob('*.py'))}
    same = [file for file, stem in recipes.items() if path.name in (stem, f'{stem}.py')]
    if len(same) == 1 and len(path.parts) == 1:
        return Path(same[0])
    if same and len(path.parts) == 1:
        raise ConfigError(f'{path} is the name of several configs: {", ".join(same)}')
    stems = list(recipes.values())
    near = difflib.get_close_matches(path.stem, set(stems), n=3)
    bare = {stem for stem in near if len(path.parts) == 1 and stems.count(stem) == 1}
    found = [stem if stem in bare else file for file, stem in recipes.items() if stem in near]
    raise ConfigError(f'no config file {path}' + did_you_mean(found))


def merge_config(
    config: str | None,
    options: dict,
    checkpoint: str | None = None,
    needs: Sequence[str] = (),
) -> Config:
    """Load a config and merge overrides, ``{'train_dataloader.batch_size': 4, ...}``, into it.

    An override of one of the recipe's variables, ``{'num_classes': 5}``, holds wherever the recipe
    reads it: see :mod:`.variables`.

    Args:
        config: Its file, or a recipe's name. None for the one that ``checkpoint`` was trained with.
        options: The overrides.
        checkpoint: Read where there is no config.
        needs: What the config must have, such as ('model', 'train_dataloader').

    Raises:
        ConfigError: There is no such file, it cannot be evaluated, it imports a package that is not
            installed, it lacks something, or an override, or a variable that the file sets, reaches
            nothing.
        OSError, ValueError: There is no such checkpoint, or it is none.
    """
    if config is None:
        cfg = _merge_into_checkpoints(checkpoint, options)
    else:
        cfg = _merge_into_file(config, options)
    for name in needs:
        if not cfg.get(name):
            raise ConfigError(f'{config or checkpoint} has no {name}')
    return cfg


def _merge_into_file(config: str, options: dict) -> Config:
    path = find_config(config, CONFIGS)
    try:
        cfg = read_file(path)
    except RecipeError as error:
        raise ConfigError(str(error)) from error
    except ImportError as error:
        cause = error
        while cause.__context__ is not None:  # mmengine's own two hide what is missing
            cause = cause.__context__
        text = f'{config}: custom_imports cannot be imported: {cause}'
        if str(cause).startswith('MMCV=='):  # what mmaction2, mmpretrain, ... say of its version
            text += (
                '\nwithout compiled operators: pip uninstall -y mmcv; pip install "mmcv-lite<2.2"'
            )
        raise ConfigError(text) from error
    check_options(cfg, options)
    cfg, options = _set_variables(path, cfg, options)
    cfg.merge_from_dict(options)
    return cfg


def _merge_into_checkpoints(checkpoint: str, options: dict) -> Config:
    """The config of a checkpoint with overrides; its recipe's variables have been read already."""
    cfg = config_of_checkpoint(checkpoint)
    check_options(cfg, options)
    for key in options:
        if key.split('.')[0] not in RUNNER_KEYS | TOOL_KEYS:
            raise ConfigError(
                f'--cfg-options {key}: nobody reads this setting of the config in {checkpoint}. '
                'Give the recipe before the checkpoint, which has the variables, or set what '
                'became of it, as test_dataloader.dataset.data_root'
            )
    cfg.merge_from_dict(options)
    return cfg


def _set_variables(path: Path, cfg: Config, options: dict) -> tuple[Config, dict]:
    """The config with those overrides that are variables of the recipe; and the others.

    Raises:
        ConfigError: Nobody reads one of them.
    """
    if path.suffix != '.py' or Config._is_lazy_import(str(path)):
        return cfg, options
    for name, base in overshadowed(path, RUNNER_KEYS | TOOL_KEYS):
        raise ConfigError(
            f'{path}: {name} = {cfg[name]!r} changes nothing, since {base.name} was evaluated '
            f'before, with a value of its own. Give it by --cfg-options {name}=..., or copy the '
            'recipe and change it there'
        )
    variables = {
        k: read for k, read in variables_of(path).items() if k not in RUNNER_KEYS | TOOL_KEYS
    }
    own = {key: value for key, value in options.items() if key.split('.')[0] in variables}
    for key in own:
        name = key.split('.')[0]
        if not variables[name] and not isinstance(cfg[name], dict):  # a tool may read a dict
            raise ConfigError(f'--cfg-options {key}: nobody reads this setting of {path}')
    if not own:
        return cfg, options
    # a dict may take the place of a name, as that of an architecture
    whole = {k: v for k, v in own.items() if k in cfg and not isinstance(cfg[k], dict)}
    names = {key.split('.')[0] for key in own}
    values = Config({name: cfg[name] for name in names} | whole)
    values.merge_from_dict({key: value for key, value in own.items() if key not in whole})
    try:
        cfg = set_variables(path, values.to_dict())
    except RecipeError as error:
        given = ' '.join(f'{key}={value}' for key, value in own.items())
        raise ConfigError(f'--cfg-options {given}: {error}') from error
    return cfg, {key: value for key, value in options.items() if key not in own}


def read_config(
    config: str | None,
    options: dict,
    launcher: str,
    work_dir: str | None,
    checkpoint: str | None = None,
) -> Config:
    """Load a config with overrides, launcher and work dir merged into it.

    Args:
        config: Path of the file, or None.
        options: Overrides, as of :func:`merge_config`.
        launcher: One of ``LAUNCHERS``.
        work_dir: For logs and checkpoints; None for the config's, else ``work_dirs/<its name>``.
        checkpoint: Whose own config is read where ``config`` is None.

    Raises:
        ConfigError: There is no such file, or an override reaches nothing.
    """
    cfg = merge_config(config, options, checkpoint)
    cfg.launcher = launcher
    default = str(Path('work_dirs') / Path(cfg.filename or checkpoint).stem)
    cfg.work_dir = work_dir or cfg.get('work_dir') or default
    cfg.env_cfg = cfg.get('env_cfg') or dict(dist_cfg=dict(backend='nccl'))
    return cfg
