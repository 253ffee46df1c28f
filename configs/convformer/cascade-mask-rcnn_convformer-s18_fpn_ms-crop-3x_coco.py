# ConvFormer-S18 in Cascade Mask R-CNN, 3x with multi-scale crops.
#
# The authors released no dense code. ConvNeXt's recipe with the drop path and the layer-wise decay
# of ConvNeXt-T, its equal in cost: 0.4 and 0.7. On each output a LayerNorm.
_base_ = "../cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py"

model = dict(
    backbone=dict(
        type="ConvFormer",
        arch="s18",
        drop_path_rate=0.4,
        init_cfg=dict(checkpoint="metaformer://convformer_s18"),
    )
)
