"""The embedded shapes data set.

The registered data set types live in `shapes_detection` and `shapes_segmentation`, which import
mmdet and mmseg; a config that names them by their import path loads the one it needs.
"""

from .shapes import METAINFO, ShapesSpec, make_shapes

__all__ = ["METAINFO", "ShapesSpec", "make_shapes"]
