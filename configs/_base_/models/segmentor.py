# What the segmentors share: pictures as ImageNet's, four maps, a head that learns 150 classes.
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(out_indices=(0, 1, 2, 3)),
    decode_head=dict(
        in_index=[0, 1, 2, 3],
        dropout_ratio=0.1,
        num_classes=150,
        # In one process plain batch norm, also on a CPU.
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
)
