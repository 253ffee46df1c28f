# RIFormer-S12 taught by PoolFormer-S12: Semantic FPN on ADE20K, 40k.
#
# Follows no publication. Starts from all of the teacher, which has to be trained first.
_base_ = ["semantic-fpn_riformer-s12_40k_ade20k.py", "../_base_/distillation.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student=_base_.model,
    teacher="{{ fileDirname }}/../poolformer/semantic-fpn_poolformer-s12_40k_ade20k.py",
    teacher_checkpoint="work_dirs/semantic-fpn_poolformer-s12_40k_ade20k/iter_40000.pth",
    inherit=True,
    terms=dict(pixel_scores=dict(weight=1.0, temperature=2.0), **_base_.distillation),
)
model["student"]["backbone"]["init_cfg"] = None  # the teacher's weights come in their place
