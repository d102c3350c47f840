from tests.factory import partner

__all__ = ["partner"]
