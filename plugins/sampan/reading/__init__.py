"""A landed delivery as records: bytes, formats, and what must not be stored of persons."""
