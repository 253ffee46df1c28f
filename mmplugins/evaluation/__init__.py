"""Metrics: COCO's average precision, fast, and IoU, both class by class.

A config names them by import path (``type='mmplugins.evaluation.coco.FastCocoMetric'``), so that
importing ``mmplugins`` need import neither mmdet nor mmseg.
"""
