# ConvFormer-S36 in UPerNet on ADE20K, 160k. 49.6 mIoU, 50.7 at several scales, as MambaOut (Table
# 3) quotes its authors.
#
# They released no dense code. ConvNeXt's recipe with the drop path of ConvNeXt-S, its equal in
# cost: 0.3. On each output a LayerNorm.
_base_ = "../upernet/upernet_160k_ade20k.py"

model = dict(
    backbone=dict(
        type="ConvFormer",
        arch="s36",
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint="metaformer://convformer_s36"),
    )
)
