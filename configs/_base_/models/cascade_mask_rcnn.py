# Cascade Mask R-CNN (Cai and Vasconcelos, TPAMI 2019, arXiv 1906.09756), as ConvNeXt trains it.
#
# Three box heads, each stricter than the one before, of four convolutions and one linear layer
# with GIoU loss on decoded boxes, in place of the two linear layers of the original.
_base_ = "mask_rcnn.py"

# By stage: IoU from which a proposal is an object, and the spread of its box offsets.
cascade_ious = (0.5, 0.6, 0.7)
cascade_stds = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
model = dict(
    type="CascadeRCNN",
    rpn_head=dict(loss_bbox=dict(_delete_=True, type="SmoothL1Loss", beta=1 / 9, loss_weight=1.0)),
    roi_head=dict(
        type="CascadeRoIHead",
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[
            dict(
                _base_.model.roi_head.bbox_head,
                type="ConvFCBBoxHead",
                num_shared_convs=4,
                num_shared_fcs=1,
                conv_out_channels=256,
                bbox_coder=dict(_base_.model.roi_head.bbox_head.bbox_coder, target_stds=list(stds)),
                reg_decoded_bbox=True,
                # In one process plain batch norm, also on a CPU.
                norm_cfg=dict(type="SyncBN", requires_grad=True),
                loss_bbox=dict(type="GIoULoss", loss_weight=10.0),
            )
            for stds in cascade_stds
        ],
    ),
    train_cfg=dict(
        rpn=dict(allowed_border=0),
        rpn_proposal=dict(max_per_img=2000),
        rcnn=[
            dict(
                _base_.model.train_cfg.rcnn,
                assigner=dict(
                    type="MaxIoUAssigner",
                    pos_iou_thr=iou,
                    neg_iou_thr=iou,
                    min_pos_iou=iou,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
            )
            for iou in cascade_ious
        ],
    ),
)
