"""The feature views: tables for training, histories for serving, and what is computed on demand."""

from feature_repo.definitions import FEATURES, OWNER
from seaway.feast_views import declare

_declared = declare(FEATURES, OWNER)
customer_view, terminal_view = _declared.views
customer_history, terminal_history = _declared.histories
request_view = _declared.request
online_view = _declared.online
