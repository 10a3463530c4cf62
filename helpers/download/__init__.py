"""Notebook 03: download a model from ModelScope, and know that it arrived whole."""

from helpers.download.pipeline import DownloadPlan, download, plan_download, verify
from helpers.download.stored_list import StoredList, stored_file_list

__all__ = ["DownloadPlan", "StoredList", "download", "plan_download", "stored_file_list", "verify"]
