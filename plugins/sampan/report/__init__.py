"""The answers to the questions as static pages in English and traditional Chinese, one folder per release. See ADR 0043."""
