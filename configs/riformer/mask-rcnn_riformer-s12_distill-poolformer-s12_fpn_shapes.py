# RIFormer-S12 taught by PoolFormer-S12: Mask R-CNN on the embedded shapes data.
#
# Follows no publication. Starts from all of the teacher, which has to be trained first.
_base_ = ["../mask_rcnn/mask-rcnn_shapes.py", "../_base_/distillation.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student=_base_.model,
    teacher="{{ fileDirname }}/../poolformer/mask-rcnn_poolformer-s12_fpn_shapes.py",
    teacher_checkpoint="work_dirs/mask-rcnn_poolformer-s12_fpn_shapes/epoch_10.pth",
    inherit=True,
    terms=dict(region_scores=dict(weight=1.0, temperature=2.0), **_base_.distillation),
)
model["student"]["backbone"]["type"] = "RIFormer"
