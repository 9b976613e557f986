"""What users' configs and checkpoints rest on does not change unnoticed.

Registered names, the modules that configs and documents name, and the state-dict keys and shapes of
every recipe are compared with ``tests/golden``. A change that is meant is written there by::

    python tests/test_golden.py

and its diff is read before it is committed.
"""

import re
import sys
from collections import defaultdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import mmengine.registry
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import Registry

import bimm_mm  # noqa: F401
from bimm_mm.config.model import build_without_memory

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / 'tests' / 'golden'


def registered_names() -> str:
    """One line for each part of this package that is in one of mmengine's root registries."""
    for path in sorted((ROOT / 'bimm_mm').rglob('*.py')):
        if path.name != '__main__.py':
            import_module('.'.join(path.relative_to(ROOT).with_suffix('').parts))
    lines = {
        f'{registry_name} {name}'
        for registry_name, registry in vars(mmengine.registry).items()
        if isinstance(registry, Registry)
        for name, part in registry.module_dict.items()
        if getattr(part, '__module__', '').startswith('bimm_mm')
    }
    return ''.join(f'{line}\n' for line in sorted(lines))


def named_modules() -> str:
    """The modules of this package that recipes import."""
    text = ''.join(
        p.read_text() for p in [*ROOT.glob('configs/**/*.py'), *ROOT.glob('docs/**/*.md')]
    )
    found = set(re.findall(r"['\"`](bimm_mm(?:\.[a-z_0-9]+)+)['\"`]", text))
    return ''.join(f'{name}\n' for name in sorted(found))


def recipes() -> list[Path]:
    """All configs with a model, without bases."""
    files = [p for p in ROOT.glob('configs/**/*.py') if '_base_' not in p.parts]
    return sorted(p for p in files if 'studies' not in p.parts)


def forget_tokenizers(node: object) -> None:
    """Take tokenizers out of a config: they read files, and have no part in checkpoints."""
    if isinstance(node, dict):
        node.pop('tokenizer', None)
        for value in node.values():
            forget_tokenizers(value)


def state_of(path: Path) -> str:
    """Keys and shapes of a recipe's state dict; those that differ in numbers alone on one line."""
    cfg = Config.fromfile(path)
    forget_tokenizers(cfg.model)
    model = build_without_memory(cfg)
    lines = defaultdict(int)
    for key, value in model.state_dict().items():
        shape = 'x'.join(map(str, value.shape)) or 'scalar'
        lines[f'{re.sub(r"(?<=[.])[0-9]+(?=[.])", "*", key)} {shape}'] += 1
    return ''.join(f'{count} {line}\n' for line, count in sorted(lines.items()))


def read_states() -> dict[str, str]:
    """From the path of a recipe to its keys and shapes, as ``tests/golden`` has them."""
    blocks = (GOLDEN / 'state_dicts.txt').read_text().split('\n\n')
    states = {}
    for block in blocks:
        lines = block.strip().splitlines()
        state = ''.join(f'{line}\n' for line in lines if not line.startswith('# '))
        states.update({line[2:]: state for line in lines if line.startswith('# ')})
    return states


def write_states(states: dict[str, str]) -> str:
    """Recipes with equal states stand above one list of them."""
    by_state = defaultdict(list)
    for name, state in states.items():
        by_state[state].append(name)
    return '\n'.join(
        ''.join(f'# {name}\n' for name in names) + state for state, names in by_state.items()
    )


def test_registered_names():
    assert registered_names() == (GOLDEN / 'registered_names.txt').read_text()


def test_modules_that_configs_and_documents_name_exist():
    names = named_modules()
    assert names == (GOLDEN / 'named_modules.txt').read_text()
    missing = [name for name in names.split() if find_spec(name.removesuffix('()')) is None]
    attributes = [name for name in missing if find_spec(name.rpartition('.')[0]) is None]
    assert not attributes


def test_every_recipe_is_known():
    names = [str(path.relative_to(ROOT)) for path in recipes()]
    assert sorted(read_states()) == names


@pytest.mark.parametrize('path', recipes(), ids=lambda path: str(path.relative_to(ROOT)))
def test_state_dict_of(path):
    torch.manual_seed(0)
    known = read_states().get(str(path.relative_to(ROOT)))
    assert state_of(path) == known, 'see the head of this file'


if __name__ == '__main__':
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / 'registered_names.txt').write_text(registered_names())
    (GOLDEN / 'named_modules.txt').write_text(named_modules())
    states = {str(path.relative_to(ROOT)): state_of(path) for path in recipes()}
    (GOLDEN / 'state_dicts.txt').write_text(write_states(states))
    print(f'{len(states)} recipes', file=sys.stderr)
