"""The error that this package raises."""


class DistillationError(ValueError):
    """A teacher and a student, or the settings between them, that do not go together."""
