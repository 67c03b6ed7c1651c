"""Who the features describe."""

from machine_failure.feature_repo.definitions import FEATURES, OWNER
from seaway.feast_views import declare

machine, site = declare(FEATURES, OWNER).entities
