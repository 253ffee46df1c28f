# RIFormer-S12 taught by PoolFormer-S12: Semantic FPN on the embedded shapes data.
#
# Follows no publication. Starts from all of the teacher, which has to be trained first.
_base_ = ["../semantic_fpn/semantic-fpn_shapes.py", "../_base_/distillation.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student=_base_.model,
    teacher="{{ fileDirname }}/../poolformer/semantic-fpn_poolformer-s12_shapes.py",
    teacher_checkpoint="work_dirs/semantic-fpn_poolformer-s12_shapes/iter_750.pth",
    inherit=True,
    terms=dict(pixel_scores=dict(weight=1.0, temperature=2.0), **_base_.distillation),
)
model["student"]["backbone"]["type"] = "RIFormer"
