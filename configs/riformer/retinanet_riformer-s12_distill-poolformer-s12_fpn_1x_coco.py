# RIFormer-S12 taught by PoolFormer-S12: RetinaNet on COCO, 1x.
#
# Follows no publication. Starts from all of the teacher, which has to be trained first.
_base_ = ["retinanet_riformer-s12_fpn_1x_coco.py", "../_base_/distillation.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student=_base_.model,
    teacher="{{ fileDirname }}/../poolformer/retinanet_poolformer-s12_fpn_1x_coco.py",
    teacher_checkpoint="work_dirs/retinanet_poolformer-s12_fpn_1x_coco/epoch_12.pth",
    inherit=True,
    terms=dict(anchor_scores=dict(weight=1.0), **_base_.distillation),
)
model["student"]["backbone"]["init_cfg"] = None  # the teacher's weights come in their place
