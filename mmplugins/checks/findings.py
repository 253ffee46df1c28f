"""What a data check says: a finding to read, or an error that stops."""

from dataclasses import dataclass


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


class DataError(ValueError):
    """Data that cannot be trained with: names the value, what was expected and the remedy.

    Args:
        where: The config entry it concerns.
        message: What is wrong and what to do.

    Attributes:
        where: The config entry it concerns.
    """

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.where = where
