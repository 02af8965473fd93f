"""Federated deep reinforcement learning over MPI."""

__version__ = "0.1.0"
