"""What `pulumi up` runs in this folder: the platform of one environment."""

import sys

import pulumi

from infra import settings
from infra.program import deploy
from seaway.errors import SeawayError

try:
    for name, value in deploy(settings.read()).items():
        pulumi.export(name, value)
except SeawayError as error:
    pulumi.log.error(str(error))
    sys.exit(1)
