"""What a data check says: a finding to read, or an error that stops."""

from dataclasses import dataclass

from mmplugins.utils import DataError

__all__ = ["DataError", "Finding"]


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong but can be trained with.

    Attributes:
        where: The config entry it concerns, for example `train_dataloader.dataset`.
        message: What was found.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"
