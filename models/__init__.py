"""The tables and their constraints; importing the package registers all of them."""

from models.background import AdminJob, ProvisioningAttempt, SweepRun, SweepTotal
from models.people import Feedback, Mentorado, MetricaMensal, User
from models.records import Adoption, AppSetting, ArchivedRow, AuditEvent, WebhookMessage

__all__ = [
    "AdminJob",
    "Adoption",
    "AppSetting",
    "ArchivedRow",
    "AuditEvent",
    "Feedback",
    "Mentorado",
    "MetricaMensal",
    "ProvisioningAttempt",
    "SweepRun",
    "SweepTotal",
    "User",
    "WebhookMessage",
]
