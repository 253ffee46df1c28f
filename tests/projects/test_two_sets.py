"""The protocol over two small sets: what its options make of the recipes."""

import json
from pathlib import Path

from mmplugins.benchmark.protocol_files import load_protocol
from mmplugins.benchmark.runs import plan, run_config

FILE = Path(__file__).parents[2] / "projects/two_sets/two.yml"


def data(folder):
    """Folders with names and annotations, as far as a config needs them."""
    (folder / "bccd/annotations").mkdir(parents=True)
    categories = [dict(id=k, name=name) for k, name in enumerate(("RBC", "WBC", "Platelets"))]
    for split in ("train", "val", "test"):
        images = [dict(id=0, file_name="a.jpg", width=640, height=480)]
        content = dict(images=images, annotations=[], categories=categories)
        (folder / f"bccd/annotations/instances_{split}.json").write_text(json.dumps(content))
    for split, count in (("training", 70), ("validation", 2)):
        (folder / f"camvid/annotations/{split}").mkdir(parents=True)
        for k in range(count):
            (folder / f"camvid/annotations/{split}/{k}.png").touch()
    return {name: str(folder / name) for name in ("bccd", "camvid")}


def test_both_recipes_take_the_options(tmp_path):
    protocol = load_protocol(str(FILE), data(tmp_path))
    init = "init_cfg=dict(type='Pretrained', checkpoint='w.pth')"
    backbone = f"dict(type='TimmBackbone', model_name='test_resnet', {init})"
    runs = plan(protocol, {"small": backbone}, tmp_path / "out")
    assert len(runs) == 2 * 3 * 3 * 3  # sets, starts, rates, seeds: a quarter of 216
    assert len({run.name for run in runs}) == len(runs)
    bccd, camvid = (
        run_config(next(run for run in runs if (run.set.name, run.start) == (name, "frozen")))
        for name in ("bccd", "camvid")
    )
    resize = bccd.train_dataloader.dataset.pipeline[2]
    assert resize.type == "Resize" and resize.scale == (160, 128)
    assert bccd.model.bbox_head.num_classes == 3 and bccd.model.neck.out_channels == 64
    crop = camvid.train_dataloader.dataset.pipeline[3]
    assert crop.type == "RandomCrop" and crop.crop_size == (128, 160)
    assert camvid.model.decode_head.num_classes == 11
    held, kept = (Path(camvid[f"{s}_dataloader"].dataset.ann_file) for s in ("val", "train"))
    assert (len(held.read_text().split()), len(kept.read_text().split())) == (60, 10)
    for cfg in (bccd, camvid):
        assert cfg.model.backbone.type == "FrozenBackbone" and cfg.train_cfg.max_iters == 40
        assert cfg.train_dataloader.batch_size == 8 and cfg.optim_wrapper.optimizer.lr == 5e-4
