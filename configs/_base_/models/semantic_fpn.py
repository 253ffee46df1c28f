# Semantic FPN (Kirillov et al., CVPR 2019, arXiv 1901.02446) with the settings of mmseg's model.
#
# A recipe adds the backbone's type, the neck's in_channels and the size of the training crops, to
# which smaller pictures are padded: model.data_preprocessor.size.
_base_ = "segmentor.py"

model = dict(
    neck=dict(type="FPN", out_channels=256, num_outs=4),
    decode_head=dict(
        type="FPNHead",
        in_channels=[256, 256, 256, 256],
        feature_strides=[4, 8, 16, 32],
        channels=128,
    ),
    test_cfg=dict(mode="whole"),
)
