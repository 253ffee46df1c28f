# RIFormer's distillation for dense tasks: what all students share. A leaf adds the scores' term.
#
# The paper names the terms (J. Wang et al., CVPR 2023, arXiv 2304.05659); their weights and the
# layers they match were not to be found. These are settings of this repository: all blocks, and
# small enough that the task's own losses lead. docs/distillation.md has every setting.
distillation = dict(
    mixer=dict(weight=0.02, blocks="all", warmup=500),
    block=dict(weight=0.02, blocks="all", warmup=500),
)
