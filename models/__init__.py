"""The tables and their constraints; importing the package registers all of them."""

from models.admin_job import AdminJob
from models.mentorado import Mentorado
from models.months import Feedback, MetricaMensal
from models.provisioning_attempt import ProvisioningAttempt
from models.records import Adoption, AppSetting, ArchivedRow, AuditEvent, WebhookMessage
from models.sweep_run import SweepRun, SweepTotal
from models.user import User

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
