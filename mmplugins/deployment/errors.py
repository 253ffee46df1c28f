"""What goes wrong on the way out of PyTorch."""


class ExportError(ValueError):
    """A model that cannot be exported, or whose file computes something else; says which part."""
