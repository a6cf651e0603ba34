"""The demo: a real model, trained on real data across separate processes, with every update hidden."""
