# UPerNet (Xiao et al., ECCV 2018, arXiv 1807.10221) with the settings of mmseg's model.
#
# An auxiliary FCN head learns from stride 16, in training only. A recipe adds the backbone's type,
# the in_channels of both heads (the auxiliary one's is that of stage 2), the size of the training
# crops, and the windows of the test.
_base_ = "segmentor.py"

model = dict(
    decode_head=dict(type="UPerHead", pool_scales=(1, 2, 3, 6), channels=512),
    auxiliary_head=dict(
        type="FCNHead",
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
    test_cfg=dict(mode="slide"),
)
