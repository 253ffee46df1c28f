"""Prediction: from a trained, deployed or exported model and pictures to what is in them."""

from .inputs import InputError, find_inputs, read_picture
from .loading import load_model
from .model import LoadedModel
from .predicting import Options, predict, stream
from .results import Prediction

__all__ = [
    "InputError",
    "LoadedModel",
    "Options",
    "Prediction",
    "find_inputs",
    "load_model",
    "predict",
    "read_picture",
    "stream",
]
