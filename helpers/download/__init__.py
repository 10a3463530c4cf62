"""Notebook 03: download a model from ModelScope, and know that it arrived whole."""

from helpers.download.pipeline import Plan, cache_folder, download, plan, verify

__all__ = ["Plan", "cache_folder", "download", "plan", "verify"]
