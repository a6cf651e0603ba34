"""The `secagg` command, one module for each group of sub-commands."""
