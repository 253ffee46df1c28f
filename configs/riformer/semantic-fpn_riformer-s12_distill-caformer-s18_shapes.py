# RIFormer-S12 taught by CAFormer-S18: Semantic FPN on the embedded shapes data.
#
# Follows no publication. Starts as without a teacher; the teacher has to be trained first.
# tools/train.py configs/semantic_fpn/semantic-fpn_shapes.py --backbone caformer_s18 does that.
_base_ = ["../semantic_fpn/semantic-fpn_shapes.py", "../_base_/distillation.py"]

teacher_backbone = dict(type="CAFormer", arch="s18", out_indices=(0, 1, 2, 3))
model = dict(
    _delete_=True,
    type="Distiller",
    student=_base_.model,
    teacher=dict(_base_.model, backbone=teacher_backbone),
    teacher_checkpoint="work_dirs/semantic-fpn_shapes_caformer_s18/iter_750.pth",
    terms=dict(pixel_scores=dict(weight=1.0, temperature=2.0), **_base_.distillation),
)
model["student"]["backbone"]["type"] = "RIFormer"
