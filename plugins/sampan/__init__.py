"""Sampan: Hong Kong's trade, funding, insurance and festival data, brought together per SME."""
