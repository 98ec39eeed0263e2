"""Processes, devices, number types and compilers: what a run runs on. Nothing is imported here: workers need no jax."""
