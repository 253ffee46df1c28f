from __future__ import annotations

from pathlib import Path

import pytest
from small_recipes import checkpoint_of, config_of, picture


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("inference")


@pytest.fixture(scope="session")
def pictures(folder) -> list[Path]:
    """Pictures of several shapes."""
    made = folder / "pictures"
    made.mkdir()
    sizes = [(72, 108), (72, 108), (100, 60), (64, 96)]
    return [picture(made / f"{k}.png", size, seed=k) for k, size in enumerate(sizes)]


@pytest.fixture(scope="session")
def trained(folder):
    """Function from a recipe to its config file and checkpoint."""
    made: dict[str, tuple[Path, Path]] = {}

    def trained(recipe: str) -> tuple[Path, Path]:
        if recipe not in made:
            config = config_of(recipe, folder)
            made[recipe] = config, checkpoint_of(config, f"{recipe}.pth")
        return made[recipe]

    return trained
