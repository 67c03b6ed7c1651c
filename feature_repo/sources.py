"""Where the training views' rows are: files of the feature step, below the offline store's root."""

from feature_repo.definitions import FEATURES, OWNER
from seaway.feast_views import declare

customer_file, terminal_file = declare(FEATURES, OWNER).sources
