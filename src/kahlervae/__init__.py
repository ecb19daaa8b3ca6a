"""Kähler geometry of complex variational autoencoders."""
