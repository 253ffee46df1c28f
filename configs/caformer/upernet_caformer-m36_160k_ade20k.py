# CAFormer-M36 in UPerNet on ADE20K, 160k. 51.7 mIoU, 51.7 at several scales, as MambaOut (Table 3)
# quotes its authors.
#
# They released no dense code. ConvNeXt's recipe with the drop path of ConvNeXt-B, its equal in
# cost: 0.4. On each output a LayerNorm.
_base_ = "../upernet/upernet_160k_ade20k.py"

model = dict(
    backbone=dict(
        type="CAFormer",
        arch="m36",
        drop_path_rate=0.4,
        init_cfg=dict(checkpoint="metaformer://caformer_m36"),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 576]),
    auxiliary_head=dict(in_channels=384),
)
