"""Lattice arithmetic, CKKS bytes and threshold keys: pure, without network, files or clock."""
