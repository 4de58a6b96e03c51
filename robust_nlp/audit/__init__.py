"""The audit: attacks against certificates, inside the balls that they certify."""

from importlib import import_module
from typing import Any

from robust_nlp.audit.records import AuditedText, JudgedText, Judgement
from robust_nlp.audit.settings import AuditSettings
from robust_nlp.audit.verdict import Contradiction, Verdict, verdict

#: Names whose modules import torch, and so wait until somebody asks for them.
_LATER = {
    "audit": "robust_nlp.audit.texts",
    "audit_run": "robust_nlp.audit.run",
    "audit_text": "robust_nlp.audit.texts",
    "words_by_class": "robust_nlp.audit.writing",
}

__all__ = [
    "AuditSettings",
    "AuditedText",
    "Contradiction",
    "JudgedText",
    "Judgement",
    "Verdict",
    "audit",
    "audit_run",
    "audit_text",
    "verdict",
    "words_by_class",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'robust_nlp.audit' has no attribute {name!r}")
