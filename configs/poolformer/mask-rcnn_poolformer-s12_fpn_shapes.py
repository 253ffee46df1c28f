# PoolFormer-S12 in a slim Mask R-CNN on the embedded shapes data, from random weights.
#
# Follows no publication. The backbone is the published one, but its layer scale starts at 1: the
# published 1e-5 is for 300 epochs and leaves the blocks asleep in a short training.
_base_ = "../mask_rcnn/mask-rcnn_shapes.py"

model = dict(backbone=dict(type="PoolFormer", arch="s12", layer_scale=1.0))
