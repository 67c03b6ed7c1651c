"""One feature service for training and one for serving, named after the model version that they feed."""

from feature_repo.definitions import FEATURES, OWNER
from seaway.feast_views import declare

training, serving = declare(FEATURES, OWNER).services
