"""Where the training views' rows are: files of the feature step, below the offline store's root."""

from machine_failure.feature_repo.definitions import FEATURES, OWNER
from seaway.feast_views import declare

readings_file, failures_file, maintenance_file = declare(FEATURES, OWNER).sources
