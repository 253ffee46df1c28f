# CAFormer-M36 in Cascade Mask R-CNN, 3x with multi-scale crops.
#
# The authors released no dense code. ConvNeXt's recipe with the drop path and the layer-wise decay
# of ConvNeXt-B, its equal in cost: 0.7 and 0.8. On each output a LayerNorm.
_base_ = "../cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py"

model = dict(
    backbone=dict(
        type="CAFormer",
        arch="m36",
        drop_path_rate=0.7,
        init_cfg=dict(checkpoint="metaformer://caformer_m36"),
    ),
    neck=dict(in_channels=[96, 192, 384, 576]),
)
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.8))
