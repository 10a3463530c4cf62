"""Notebook 03: download a model from ModelScope, and know that it arrived whole."""

from helpers.download.pipeline import DownloadPlan, download, plan_download, verify

__all__ = ["DownloadPlan", "download", "plan_download", "verify"]
