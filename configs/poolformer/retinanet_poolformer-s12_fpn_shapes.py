# PoolFormer-S12 in a slim RetinaNet on the embedded shapes data, from random weights: the demo.
#
# Follows no publication. The backbone is the published one, but its layer scale starts at 1: the
# published 1e-5 is for 300 epochs and leaves the blocks asleep in a short training.
_base_ = "../retinanet/retinanet_shapes.py"

model = dict(backbone=dict(type="PoolFormer", arch="s12", layer_scale=1.0))
