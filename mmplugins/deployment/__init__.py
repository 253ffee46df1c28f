"""From a trained model to one that is fast at inference."""

from .deploy_hook import DeployHook
from .equality import largest_difference, raw_outputs
from .reparameterize import reparameterize

__all__ = ["DeployHook", "largest_difference", "raw_outputs", "reparameterize"]
