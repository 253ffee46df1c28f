# PoolFormer-S12 in a slim RetinaNet on the embedded shapes data, from random weights: the demo.
#
# Follows no publication. The backbone is the published one, but its layer scale starts at 1: the
# published 1e-5 is for 300 epochs and leaves the blocks asleep in a short training. Gradients are
# clipped at 1: at the 5 of the schedule a run may stay on its first plateau and find nothing.
_base_ = "../retinanet/retinanet_shapes.py"

model = dict(backbone=dict(type="PoolFormer", arch="s12", layer_scale=1.0))
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
