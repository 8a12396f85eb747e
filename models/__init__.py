"""The tables and their constraints, one file each; importing the package registers all of them."""

from models.admin_job import AdminJob
from models.adoption import Adoption
from models.app_setting import AppSetting
from models.archived_row import ArchivedRow
from models.audit_event import AuditEvent
from models.feedback import Feedback
from models.mentorado import Mentorado
from models.metrica_mensal import MetricaMensal
from models.provisioning_attempt import ProvisioningAttempt
from models.sweep_run import SweepRun
from models.sweep_total import SweepTotal
from models.user import User
from models.webhook_message import WebhookMessage

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
