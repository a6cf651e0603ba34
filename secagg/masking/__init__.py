"""The arithmetic and cryptography of the `masking` protocol: pure, whole arrays, randomness as an argument.

Nothing is imported here: the coordinator loads the modules that it needs, and none that draws a
client's secrets (DESIGN section 5; docs/protocol.md, section "Masking").
"""
