"""Warehouses that earlier versions made, as dumps, with what makes them: `make.py`."""
