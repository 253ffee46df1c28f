"""From a trained model to one that is fast at inference."""

from .deploy_hook import DeployHook
from .equality import largest_difference, raw_outputs
from .loading import follow_the_file
from .reparameterize import reparameterize

__all__ = ["DeployHook", "follow_the_file", "largest_difference", "raw_outputs", "reparameterize"]
