# ConvFormer-S18 in UPerNet on ADE20K, 160k. 47.5 mIoU, 48.6 at several scales, as MambaOut (Table
# 3) quotes its authors.
#
# They released no dense code. ConvNeXt's recipe with the drop path of ConvNeXt-T, its equal in
# cost: 0.4. On each output a LayerNorm.
_base_ = "../upernet/upernet_160k_ade20k.py"

model = dict(
    backbone=dict(
        type="ConvFormer",
        arch="s18",
        drop_path_rate=0.4,
        init_cfg=dict(checkpoint="metaformer://convformer_s18"),
    )
)
