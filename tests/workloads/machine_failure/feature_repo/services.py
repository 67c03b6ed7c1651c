"""One feature service for training and one for serving, named after the model version that they feed."""

from machine_failure.feature_repo.definitions import FEATURES, OWNER
from seaway.feast_views import declare

training, serving = declare(FEATURES, OWNER).services
