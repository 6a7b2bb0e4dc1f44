"""The verb `do`: what would happen if we acted."""

from kokkiri.effects.verb import do

__all__ = ["do"]
