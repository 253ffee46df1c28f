"""Published MACs, in billions, and where each figure is from."""

# ConvNeXt's own tables of dense models, counted by its authors with mmcv's counter:
# 1280x800 for detection; for segmentation 2048x512, or 2560x640 where it was trained at 640.
CASCADE_CONVNEXT = {"tiny": 741, "small": 827, "base": 964, "large": 1354, "xlarge": 1898}
MASK_RCNN_CONVNEXT = {"tiny": 262}
UPERNET_CONVNEXT = {
    ("tiny", (512, 2048)): 939,
    ("small", (512, 2048)): 1027,
    ("base", (512, 2048)): 1170,
    ("large", (640, 2560)): 2458,
    ("xlarge", (640, 2560)): 3335,
}

# W. Yu and X. Wang, "MambaOut", CVPR 2025, Table 3, quoting "MetaFormer Baselines".
UPERNET_BASELINES = {
    ("ConvFormer", "s18"): 925,
    ("CAFormer", "s18"): 1024,
    ("ConvFormer", "s36"): 1003,
    ("CAFormer", "s36"): 1197,
    ("ConvFormer", "m36"): 1113,
    ("CAFormer", "m36"): 1346,
}

# W. Wang et al., "Pyramid Vision Transformer", ICCV 2021, Table 5, 512x512.
SEMANTIC_FPN_RESNET50 = 45.6

# PyTorch Image Models, results/benchmark-infer-*.csv, whole classifiers at 224x224. Its counter
# takes norms into account, so its figures are a little higher than products alone.
TIMM_CLASSIFIERS = {
    "poolformer_s12": 1.82,
    "poolformer_m48": 11.59,
    "poolformerv2_s12": 1.83,
    "poolformerv2_m48": 11.59,
    "convformer_s18": 3.96,
    "convformer_b36": 22.69,
    "caformer_s18": 4.13,
    "caformer_b36": 23.22,
    "convnext_tiny": 4.47,
    "convnext_xlarge": 60.98,
}

# MetaFormer README: classifiers at 384x384.
AT_384 = {
    "caformer_s18": 13.4,
    "caformer_s36": 26.0,
    "caformer_m36": 42.0,
    "caformer_b36": 72.2,
    "convformer_s18": 11.6,
    "convformer_s36": 22.4,
    "convformer_m36": 37.7,
    "convformer_b36": 66.5,
}
