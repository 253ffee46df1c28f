# RIFormer-S12 taught by CAFormer-S18: RetinaNet on COCO, 1x.
#
# Follows no publication. Starts as without a teacher; the teacher has to be trained first.
_base_ = ["retinanet_riformer-s12_fpn_1x_coco.py", "../_base_/distillation.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student=_base_.model,
    teacher="{{ fileDirname }}/../caformer/retinanet_caformer-s18_fpn_1x_coco.py",
    teacher_checkpoint="work_dirs/retinanet_caformer-s18_fpn_1x_coco/epoch_12.pth",
    terms=dict(anchor_scores=dict(weight=1.0), **_base_.distillation),
)
