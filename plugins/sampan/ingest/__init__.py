"""The steps that bring a delivery into raw (fetch, land, load, gate, publish), and the ledger that records them."""
