"""Hooks for OpenMMLab's runner, one to a file; those that make resuming safe are in ``resume``."""
