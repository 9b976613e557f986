"""Captions from labels: from names of classes by templates, or as a data set brings them along."""

import json
from collections.abc import Sequence
from pathlib import Path

from ..utils.lists import read_list

TEMPLATES = ('a video of {}', 'a video of a person {}', '{}')


def captions_from_classes(
    ann_file: str | Path, classes: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> dict[str, list[str]]:
    """Captions of the videos of a list from the names of their classes.

    Args:
        ann_file: ``path label`` per line.
        classes: Names of the classes, in the order of the labels; underscores become blanks.
        templates: Each has a ``{}`` where the name goes.

    Returns:
        A caption per template, by path.

    Raises:
        ValueError: A template has no ``{}``, or a line no label or one that no class has.
    """
    wrong = [template for template in templates if template.count('{}') != 1]
    if wrong or not templates:
        raise ValueError(f"templates must have one '{{}}' each, but got {wrong or 'none'}")
    result = {}
    for entry in read_list(ann_file):
        label = entry.label()
        if not 0 <= label < len(classes):
            raise ValueError(
                f'{entry.where}: label {label} is none of the {len(classes)} classes, 0 to '
                f'{len(classes) - 1}'
            )
        name = classes[label].replace('_', ' ').strip()
        result[entry.path] = [template.replace('{}', name) for template in templates]
    return result


def captions_from_ssv2(labels: str | Path, ending: str = '.webm') -> dict[str, list[str]]:
    """Captions that Something-Something V2 brings along, such as 'holding potato next to vase'.

    Args:
        labels: ``train.json`` of the data set: a list of objects with ``id`` and ``label``.
        ending: Of the videos.

    Raises:
        ValueError: The file has another content.
    """
    try:
        entries = json.loads(Path(labels).read_text())
        return {f'{entry["id"]}{ending}': [entry['label']] for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{labels} is not SSv2's list of labels, objects with id and label: {error!r}"
        ) from error
