# A linear head: batch norm and one 1x1 convolution on the four maps, concatenated at stride 4.
#
# A recipe adds the backbone's type, in_channels, and the size of the training crops.
_base_ = "segmentor.py"

model = dict(
    decode_head=dict(type="mmplugins.heads.linear.LinearHead", dropout_ratio=0.0),
    test_cfg=dict(mode="whole"),
)
