"""Heads that mmdet and mmseg lack.

A config names them by import path (``type='mmplugins.heads.linear.LinearHead'``), so that importing
``mmplugins`` need import neither mmdet nor mmseg.
"""
