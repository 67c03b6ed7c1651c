"""The feature views: tables for training, histories for serving, and what is computed on demand."""

from machine_failure.feature_repo.definitions import FEATURES, OWNER
from seaway.feast_views import declare

_declared = declare(FEATURES, OWNER)
readings_view, failures_view, maintenance_view = _declared.views
readings_history, failures_history = _declared.histories
request_view = _declared.request
online_view = _declared.online
