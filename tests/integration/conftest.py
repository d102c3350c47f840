from tests.factory import partner
from tests.integration.world import world

__all__ = ["partner", "world"]
