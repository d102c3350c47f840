"""Sampan: Hong Kong's trade, funding, insurance and festival data, brought together per SME."""

__version__ = "0.2.0.dev0"
