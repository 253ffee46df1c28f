# RIFormer-S12 taught by CAFormer-S18: Semantic FPN on ADE20K, 40k.
#
# Follows no publication. Starts as without a teacher; the teacher has to be trained first.
_base_ = ["semantic-fpn_riformer-s12_40k_ade20k.py", "../_base_/distillation.py"]

model = dict(
    _delete_=True,
    type="Distiller",
    student=_base_.model,
    teacher="{{ fileDirname }}/../caformer/semantic-fpn_caformer-s18_40k_ade20k.py",
    teacher_checkpoint="work_dirs/semantic-fpn_caformer-s18_40k_ade20k/iter_40000.pth",
    terms=dict(pixel_scores=dict(weight=1.0, temperature=2.0), **_base_.distillation),
)
