from seaway.feast_views import declare
from tests.feature_repo.toy.definitions import SPEC

_declared = declare(SPEC, "tests")
person, shop = _declared.entities
spending_file, returns_file, rating_file = _declared.sources
spending, returns, rating = _declared.views
spending_history, returns_history = _declared.histories
request = _declared.request
online = _declared.online
training, serving = _declared.services
