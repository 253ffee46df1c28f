"""Configs: read, changed by the flags of the tools, given another backbone, checked to fit."""
