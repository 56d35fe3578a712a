"""Encoded videos, ready to be asked."""
