# RIFormer-S12 taught by CAFormer-S18: Mask R-CNN on the embedded shapes data.
#
# Follows no publication. Starts as without a teacher; the teacher has to be trained first.
# tools/train.py configs/mask_rcnn/mask-rcnn_shapes.py --backbone caformer_s18 does that.
_base_ = ["../mask_rcnn/mask-rcnn_shapes.py", "../_base_/distillation.py"]

teacher_backbone = dict(type="CAFormer", arch="s18", out_indices=(0, 1, 2, 3))
model = dict(
    _delete_=True,
    type="Distiller",
    student=_base_.model,
    teacher=dict(_base_.model, backbone=teacher_backbone),
    teacher_checkpoint="work_dirs/mask-rcnn_shapes_caformer_s18/epoch_10.pth",
    terms=dict(region_scores=dict(weight=1.0, temperature=2.0), **_base_.distillation),
)
model["student"]["backbone"]["type"] = "RIFormer"
