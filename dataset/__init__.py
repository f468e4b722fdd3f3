"""Pairs on disk: find, check, crop, degrade, save. No model and no ComfyUI in here."""
