"""The embedded shapes data set, and checks of any data set before training starts.

The registered data set types live in `shapes_detection` and `shapes_segmentation`, which import
mmdet and mmseg; a config that names them by their import path loads the one it needs.
"""

from .data_checks import DataError, Finding, check_data
from .shapes import METAINFO, ShapesSpec, make_shapes

__all__ = ["METAINFO", "DataError", "Finding", "ShapesSpec", "check_data", "make_shapes"]
