"""Who the features describe."""

from feature_repo.definitions import FEATURES, OWNER
from seaway.feast_views import declare

customer, terminal = declare(FEATURES, OWNER).entities
