"""The one kind of error of this package."""


class DistillationError(ValueError):
    """A teacher and a student, or the settings between them, that do not go together."""
