"""Smoothed classifiers as plain files, in folders and on the Hub."""

from robust_nlp.sharing.hub import fetch, push
from robust_nlp.sharing.plain import PLAIN_FILES, check_plain

__all__ = ["PLAIN_FILES", "check_plain", "fetch", "push"]
