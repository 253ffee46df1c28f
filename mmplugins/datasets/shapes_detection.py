"""The shapes data set for mmdet: a `CocoDataset` that makes its files on first use.

A config names the class by its import path, so that importing `mmplugins` need not import mmdet:
`type='mmplugins.datasets.shapes_detection.ShapesDetection'`.
"""

from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS

from .shapes import METAINFO, make_shapes


@DATASETS.register_module()
class ShapesDetection(CocoDataset):
    """Shapes with boxes and polygon masks.

    Args:
        data_root: Folder of the data set; made when it is not there.
        generate: Arguments of `make_shapes` (`image_size`, `num_train`, `num_val`, `seed`). All
            data loaders of a config must give the same. `None`: its defaults.
        **kwargs: Arguments of `CocoDataset`, for example `ann_file` and `data_prefix`.

    Raises:
        FileExistsError: `data_root` holds other data; see `make_shapes`.
    """

    METAINFO = METAINFO

    def __init__(self, data_root: str, generate: dict | None = None, **kwargs) -> None:
        self.generate = generate
        super().__init__(data_root=data_root, **kwargs)

    def full_init(self) -> None:
        """Read the annotations, and make them first where there are none.

        Not before: inferencers build data sets for the names of their classes only.
        """
        make_shapes(self.data_root, **(self.generate or {}))
        super().full_init()
