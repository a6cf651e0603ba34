"""What a round will cost, before anything runs: formulas in plain numbers (``docs/protocol.md``, section "What a round costs")."""
