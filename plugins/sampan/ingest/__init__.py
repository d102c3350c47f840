"""The way of a delivery into raw: fetch, land, load, gate, publish, and the ledger that knows what happened."""
