"""What a partner promises: contracts as objects, their checks, and what is derived from them."""
