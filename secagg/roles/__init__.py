"""The role machines: pure steps from an event to effects, free of I/O and clocks."""
