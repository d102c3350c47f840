"""The way from raw to the readers: build, release, and the marts as known on an earlier date."""
