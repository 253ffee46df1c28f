# Mask R-CNN with 128 channels and GroupNorm in neck and heads and an eighth of the proposals, for
# small data, small batches and CPUs. Follows no publication.
_base_ = "mask_rcnn.py"

norm = dict(type="GN", num_groups=8)
rois = dict(out_channels=128, finest_scale=28)
proposals = dict(nms_pre=256, max_per_img=128)
model = dict(
    neck=dict(out_channels=128, norm_cfg=norm),
    rpn_head=dict(in_channels=128, feat_channels=128),
    roi_head=dict(
        bbox_roi_extractor=rois,
        bbox_head=dict(in_channels=128, fc_out_channels=256),
        mask_roi_extractor=rois,
        mask_head=dict(in_channels=128, conv_out_channels=128, num_convs=2, norm_cfg=norm),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=proposals,
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=proposals),
)
