"""Packs a trained model as a folder: safetensors, config, classes, and a model card of the run."""

import argparse
import json
from pathlib import Path

from huggingface_hub.errors import HfHubHTTPError

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.checkpoint import CheckpointError
from mmplugins.console import Console
from mmplugins.deployment.exporting import describe
from mmplugins.deployment.model_folder import model_card, push, write_folder
from mmplugins.engine import SettingError
from mmplugins.inference import InputError, load_model
from mmplugins.utils import WriteError

console = Console(soft_wrap=True, markup=False, highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, usage="%(prog)s [CONFIG] CHECKPOINT --out FOLDER [options]"
    )
    parser.add_argument(
        "model", nargs="+", metavar="CONFIG CHECKPOINT", help="or one with its config"
    )
    parser.add_argument("--out", required=True, help="the folder")
    parser.add_argument("--name", help="of the model (the folder's name)")
    parser.add_argument("--results", help="JSON file of metrics (results.json beside CHECKPOINT)")
    parser.add_argument("--overwrite", action="store_true", help="replace a model in the folder")
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="also put it on the HF hub")
    parser.add_argument("--public", action="store_true", help="a new repository there is public")
    parser.add_argument("--trust", action="store_true", help="run code in a checkpoint's config")
    args = parser.parse_args()
    if len(args.model) > 2:
        parser.error(f"expected CONFIG CHECKPOINT, got {' '.join(args.model)}")
    return args


def metrics_in(path: Path, asked: bool) -> dict[str, float]:
    """Numbers of a results file, names of nested ones joined; none if it is not there."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if asked:
            raise InputError(f"results {path} do not exist") from None
        return {}
    except ValueError as error:
        raise InputError(f"results {path} are no JSON: {error}") from error
    found: dict[str, float] = {}

    def walk(value: object, name: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{name}.{key}".lstrip("."))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value

    walk(content.get("metrics", content) if isinstance(content, dict) else {}, "")
    return found


def main() -> None:
    args = parse_args()
    model = load_model(*args.model, device="cpu", trust=args.trust)
    network = model.network
    description = describe("", model.task, model.classes, model.palette, network.data_preprocessor)
    results = Path(args.results or Path(args.model[-1]).with_name("results.json"))
    name = args.name or Path(args.out).resolve().name
    card = model_card(name, model.config, description, metrics_in(results, bool(args.results)))
    folder = write_folder(args.out, network, model.config, description, card, args.overwrite)
    console.print(f"Wrote {folder}; its card, README.md, is yours to complete")
    if args.push_to_hub:
        console.print(f"On the hub: {push(folder, args.push_to_hub, not args.public)}")


if __name__ == "__main__":
    try:
        main()
    except (
        CheckpointError,
        FileExistsError,
        HfHubHTTPError,
        InputError,
        SettingError,
        WriteError,
    ) as error:
        raise SystemExit(f"error: {error}") from None
