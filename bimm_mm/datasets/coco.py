"""COCO through mmdet, with mistakes named that mmdet passes over."""

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.registry import DATASETS


class _OrderedCoco(COCO):
    """An annotation file whose categories must be those that were asked for, in their order."""

    def get_cat_ids(self, cat_names: list = (), sup_names: list = (), cat_ids: list = ()) -> list:
        found = super().get_cat_ids(cat_names, sup_names, cat_ids)
        names = [category['name'] for category in self.load_cats(found)]
        if names != list(cat_names):
            missing = [name for name in cat_names if name not in names]
            raise ValueError(
                f'metainfo.classes={tuple(cat_names)} '
                + (f'has {missing}, which' if missing else 'has another order, and')
                + ' the annotation file does not have: its categories are '
                f'{tuple(category["name"] for category in self.load_cats(self.get_ids()))}'
            )
        return found

    def get_ids(self) -> list:
        """The ids of all categories, in the order of the file."""
        return super().get_cat_ids()


@DATASETS.register_module()
class CheckedCocoDataset(CocoDataset):
    """mmdet's CocoDataset for classes that the annotation file has, in its order.

    mmdet leaves classes out which the file does not have, and counts the others in the order of the
    file, whatever ``metainfo.classes`` says: training goes on with other labels than were meant.
    Arguments are those of mmdet's.

    Raises:
        ValueError: ``metainfo.classes`` has other names than the file's categories or another
            order (fewer classes are fine), or no image is left to train on.
    """

    COCOAPI = _OrderedCoco

    def filter_data(self) -> list[dict]:
        """As mmdet's."""
        data = super().filter_data()
        if not data:
            raise ValueError(
                f'ann_file={self.ann_file!r} has {len(self.data_list)} images, and none of them is '
                f'left by filter_cfg={self.filter_cfg}: are there annotations of the classes in it?'
            )
        return data
