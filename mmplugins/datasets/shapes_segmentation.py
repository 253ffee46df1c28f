"""The shapes data set for mmseg: a `BaseSegDataset` that makes its files on first use.

A config names the class by its import path, so that importing `mmplugins` need not import mmseg:
`type='mmplugins.datasets.shapes_segmentation.ShapesSegmentation'`.
"""

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from .shapes import METAINFO, make_shapes


@DATASETS.register_module()
class ShapesSegmentation(BaseSegDataset):
    """Shapes with label maps in the form of ADE20K; the background is unlabelled (255).

    Args:
        data_root: Folder of the data set; made when it is not there.
        generate: Arguments of `make_shapes` (`image_size`, `num_train`, `num_val`, `seed`). All
            data loaders of a config must give the same. `None`: its defaults.
        reduce_zero_label: Turns 0 into 255 and counts the classes from 0.
        **kwargs: Arguments of `BaseSegDataset`, for example `data_prefix`.

    Raises:
        FileExistsError: `data_root` holds other data; see `make_shapes`.
    """

    METAINFO = METAINFO

    def __init__(
        self,
        data_root: str,
        generate: dict | None = None,
        reduce_zero_label: bool = True,
        **kwargs,
    ) -> None:
        self.generate = generate
        super().__init__(data_root=data_root, reduce_zero_label=reduce_zero_label, **kwargs)

    def full_init(self) -> None:
        """List the pictures, and make them first where there are none.

        Not before: inferencers build data sets for the names of their classes only.
        """
        make_shapes(self.data_root, **(self.generate or {}))
        super().full_init()
