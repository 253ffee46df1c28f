# RIFormer-S12 taught by PoolFormer-S12: RetinaNet on the embedded shapes data.
#
# Follows no publication. Starts from all of the teacher, which has to be trained first.
_base_ = ["../retinanet/retinanet_shapes.py", "../_base_/distillation.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student=_base_.model,
    teacher="{{ fileDirname }}/../poolformer/retinanet_poolformer-s12_fpn_shapes.py",
    teacher_checkpoint="work_dirs/retinanet_poolformer-s12_fpn_shapes/epoch_10.pth",
    inherit=True,
    terms=dict(anchor_scores=dict(weight=1.0), **_base_.distillation),
)
model["student"]["backbone"]["type"] = "RIFormer"
