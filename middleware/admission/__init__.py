"""Refuse work early, while it is still cheap to refuse."""

from middleware.admission.rules import AdmissionPolicy, Priority, Shed
from middleware.admission.turns import Admission

__all__ = ["Admission", "AdmissionPolicy", "Priority", "Shed"]
