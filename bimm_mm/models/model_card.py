"""Model cards: what an encoder is, how to load it, and how it was trained."""

import re

import yaml

from ..utils.tables import markdown_table

HEAD = """# {title}

An encoder of {medium}s, pretrained by masked modeling with the toolkit `bimm_mm` on OpenMMLab's
libraries. {millions:.1f} M parameters.

```python
from bimm_mm.models import {kind}

encoder = {kind}.from_pretrained(FOLDER_OR_REPOSITORY)
```

{call}
"""
CALLS = dict(
    video="It takes clips (B, 3, T, H, W), RGB, normalized with ImageNet's mean and deviation.",
    image="It takes images (B, 3, H, W), RGB, normalized with ImageNet's mean and deviation.",
    code="It takes codes (B, T, H', W') of the tokenizer that it was trained with.",
)


def model_card(
    kind: str,
    arguments: dict,
    count: int,
    run: dict | None = None,
    license: str | None = None,
    figures: dict | None = None,
) -> str:
    """Write a model card in Markdown, with the metadata that the hub reads.

    Args:
        kind: Class of the encoder.
        arguments: That it is built with.
        count: Number of its parameters.
        run: What is known of its training: ``recipe``, ``data``, ``stage``, ``branch``, ``epoch``,
            ``iter``, ``share``, ``versions``; what is missing is said to be.
        license: Of the weights, as the hub names it.
        figures: Results, by name.
    """
    run = run or {}
    medium = 'image'
    if kind == 'VimpacViT' or (arguments.get('embedding') or {}).get('type') == 'CodeEmbed':
        medium = 'code'
    elif arguments.get('num_frames') is not None:
        medium = 'video'
    recipe = str(run.get('recipe') or '').removesuffix('.py')
    head = HEAD.format(
        title=recipe or f'{kind} for {medium}s',
        medium=medium,
        millions=count / 1e6,
        kind=kind,
        call=CALLS[medium],
    )
    rows = {
        'recipe': recipe,
        'data': ', '.join(map(_without_folders, run.get('data') or ())),
        'stage': run.get('stage'),
        'branch': run.get('branch'),
        'blocks shared by the branches': run.get('num_shared'),
        'epochs': run.get('epoch'),
        'iterations': run.get('iter'),
        'versions': ', '.join(f'{k} {v}' for k, v in (run.get('versions') or {}).items()),
    }
    training = markdown_table(('', ''), [(k, v or 'not known') for k, v in rows.items()])
    sizes = markdown_table(('argument', 'value'), [(k, f'`{v}`') for k, v in arguments.items()])
    results = 'No figures were given with these weights.'
    if figures:
        results = markdown_table(('evaluation', 'result'), figures.items())
    front = dict(license=license) if license else {}
    front |= dict(
        library_name='bimm_mm',
        tags=['bimm_mm', 'masked-video-modeling', 'self-supervised-learning', 'openmmlab'],
    )
    terms = f'The weights are under {license}.' if license else 'No license was given: ask.'
    return (
        f'---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n{head}\n## Training\n\n{training}\n\n'
        f'## Architecture\n\n{sizes}\n\n## Results\n\n{results}\n\n## License\n\n{terms}\n'
    )


def _without_folders(text: str) -> str:
    """Which data, where absolute paths would tell whose machine it was on."""
    return re.sub(r'(?<= )/.*/', '', text.rstrip('/'))
