"""Exports a detector or segmentor as a file of another runtime, and verifies it.

With --int8 the file is quantised for processors, by OpenVINO's NNCF on training pictures; metric
and latency of the float and the int8 form are shown.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.benchmark import compare
from mmplugins.benchmark.speed import times_in_turns
from mmplugins.checkpoint import CheckpointError
from mmplugins.console import Console
from mmplugins.deployment import load_exported
from mmplugins.deployment.errors import ExportError
from mmplugins.deployment.exporting import FORMATS
from mmplugins.deployment.operators import OPSET
from mmplugins.deployment.verification import Differences
from mmplugins.engine import SettingError
from mmplugins.engine.config.arguments import OptionsAction
from mmplugins.inference import InputError, LoadedModel, load_model
from mmplugins.inference.evaluating import metrics_of
from mmplugins.inference.exporting import batches_of, check_target, export_verified, pictures_of
from mmplugins.inference.quantizing import export_quantized, training_pictures
from mmplugins.utils import WriteError, one_line_errors
from mmplugins.visualization import metrics_table

console = Console(soft_wrap=True, markup=False, highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [CONFIG] CHECKPOINT [options]",
    )
    parser.add_argument(
        "model", nargs="+", metavar="CONFIG CHECKPOINT", help="or one with its config"
    )
    parser.add_argument("--format", choices=list(FORMATS), help="default: by --out, else onnx")
    parser.add_argument("--out", help="the file (CHECKPOINT with the format's suffix)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--pictures", nargs="+", help="to verify on (four of the test data)")
    parser.add_argument("--int8", action="store_true", help="quantise; the format is openvino")
    parser.add_argument(
        "--calibration", type=int, default=300, metavar="N", help="training pictures for it (300)"
    )
    parser.add_argument("--calibration-pictures", nargs="+", help="others in their place")
    parser.add_argument("--no-metric", action="store_true", help="do not evaluate the two forms")
    parser.add_argument("--backbone", metavar="NAME_OR_DICT", help="as it was trained with")
    parser.add_argument("--trust", action="store_true", help="run code in a checkpoint's config")
    parser.add_argument(
        "--cfg-options", nargs="+", action=OptionsAction, metavar="NAME=VALUE", help="changes"
    )
    args = parser.parse_args()
    if len(args.model) > 2:
        parser.error(f"expected CONFIG CHECKPOINT, got {' '.join(args.model)}")
    if args.int8 and args.format not in (None, "openvino"):
        parser.error(f"--int8 writes a file of OpenVINO, not --format {args.format}")
    by_suffix = {suffix: name for name, suffix in FORMATS.items()}
    named = by_suffix.get(Path(args.out or "").suffix, "onnx")
    args.format = args.format or ("openvino" if args.int8 else named)
    return args


def main() -> None:
    args = parse_args()
    model = load_model(
        *args.model,
        device="cpu",
        backbone=args.backbone,
        options=args.cfg_options,
        trust=args.trust,
    )
    source = Path(args.model[-1])
    name = source.with_suffix(FORMATS[args.format])
    out = Path(args.out or (name.with_stem(f"{name.stem}_int8") if args.int8 else name))
    found = (quantized if args.int8 else exported)(model, out, args)
    what = "float32" if args.int8 else "PyTorch"
    console.print(f"Largest differences from {what}: {found}")
    opset = f", opset {OPSET}" if args.format == "onnx" else ""
    size = sum(file.stat().st_size for file in (out, out.with_suffix(".bin")) if file.exists())
    console.print(f"Wrote {out} ({size / 2**20:.1f} MB{opset})")
    trust = " --trust" if args.format == "torch-export" else ""
    console.print(f"    python tools/predict.py {out} PICTURES{trust}")


def exported(model: LoadedModel, out: Path, args: argparse.Namespace) -> Differences:
    """Export and verify."""
    return export_verified(
        model,
        out,
        args.format,
        pictures=args.pictures or (),
        overwrite=args.overwrite,
        tell=console.print,
    )


def quantized(model: LoadedModel, out: Path, args: argparse.Namespace) -> Differences:
    """Export in float, verify, quantise, and show what that costs and earns."""
    check_target(out, args.format, args.overwrite)
    trust = args.trust or len(args.model) == 2
    calibration = args.calibration_pictures or training_pictures(model, args.calibration, trust)
    pictures = args.pictures or pictures_of(model)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        plain = Path(folder, "float.xml")
        export_verified(model, plain, args.format, pictures=pictures, tell=console.print)
        found = export_quantized(
            model,
            plain,
            out,
            calibration,
            pictures=pictures,
            overwrite=args.overwrite,
            tell=console.print,
        )
        forms = dict(float32=load_exported(plain), int8=load_exported(out))
        for name, form in () if args.no_metric else forms.items():
            try:
                metrics = metrics_of(form, model.config, trust)
            except InputError as error:
                console.print(f"No metric: {error}")
                break
            console.print(metrics_table(metrics, title=f"{name}, validation data"))
        images = batches_of(model, pictures[:1])[0]
        times = times_in_turns({name: lambda form=f: form(images) for name, f in forms.items()})
        console.print(latency(times, images.shape))
    return found


def latency(times: dict[str, dict[int, float]], shape: tuple[int, ...]) -> str:
    """One line on two forms that were timed in turns."""
    ratio = compare(times["float32"], times["int8"])
    middle = {name: sorted(t.values())[len(t) // 2] * 1e3 for name, t in times.items()}
    shown = ", ".join(f"{name} {ms:.1f} ms" for name, ms in middle.items())
    size = f"{shape[3]}x{shape[2]}"
    return (
        f"At {size}: {shown}; {ratio.ratio:.2f} times as fast ({ratio.low:.2f} to {ratio.high:.2f})"
    )


if __name__ == "__main__":
    with one_line_errors(CheckpointError, ExportError, InputError, SettingError, WriteError):
        main()
