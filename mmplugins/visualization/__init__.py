"""Results as pictures and tables: what a training found, how it went, what it is worth."""

from .metrics_table import metrics_table, per_class_table
from .prediction_sheet import prediction_sheet
from .training_curves import training_curves

__all__ = ["metrics_table", "per_class_table", "prediction_sheet", "training_curves"]
